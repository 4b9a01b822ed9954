"""`machine.heap`: freed memory is found again within the context, and given back after it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# In a process of its own: the setting and the heap are the process's.
SCRIPT = """
import resource
import threading
import numpy as np
from corelane.machine.heap import kept_heap
from corelane.machine.process import resident_bytes

def faults_of_steps():
    for step in range(12):
        if step == 2:  # what the first steps touch is new
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [np.ones(size << 18, dtype=np.float32) for size in (4, 8, 12, 6)]
        del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

def in_thread():
    thread = threading.Thread(target=faults_of_steps)
    thread.start()
    thread.join()

faults = []
with kept_heap():
    in_thread()
    held = resident_bytes()
given_back = held - resident_bytes()
print(faults[0], given_back >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_steps_find_their_memory_again() -> None:
    """A thread that frees and allocates 30 MB ten times takes no faults for it; then the memory is given back."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    num_faults, given_back_mib = map(int, done.stdout.split())
    assert num_faults < 1000  # 10 steps touch 76,800 pages
    assert given_back_mib > 20
