"""A quota of one CPU on a machine with more: what is planned keeps within it, and is not held up by the kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from corelane.model.package import write_package
from tests.faults.cpu_group import cpu_group
from tests.model import examples

CHILD = """
import json, os, sys, time
from pathlib import Path
from corelane.machine.cpu import Machine
from corelane.machine.placement import stream_shapes
from corelane.model.candidate import Candidate
from corelane.model.package import ModelPackage
from corelane.model.optimize import tiled
from tests.faults.cpu_group import throttled
machine = Machine.detect()
shapes = stream_shapes(machine, machine.thread_budget)
package = ModelPackage.load(Path(sys.argv[1]))
rows = tiled(package.pipeline.transform(package.golden.rows), 32)
os.sched_setaffinity(0, machine.logical_cpus[:1])
group = Path(sys.argv[2])
with package.predictor(Candidate("onnxruntime", "fp32", threads=shapes[0][1])) as predictor:
    before, end = throttled(group), time.monotonic() + 3.0
    while time.monotonic() < end:
        predictor.runtime.run(rows)
        time.sleep(0.0005)
    after = throttled(group)
periods, held = after[0] - before[0], after[1] - before[1]
print(json.dumps({"shapes": shapes, "quota": machine.cpu_quota, "periods": periods, "held": held}))
"""


@pytest.mark.needs("cpu-group")
def test_a_quota_of_one_cpu_is_honoured(tmp_path: Path) -> None:
    """One stream of one thread is all that is tried; while it answers, at most 1 % of the periods are throttled."""
    path = write_package(tmp_path, examples.contents(examples.matrix()), lambda _: None)
    with cpu_group(1.0) as group:
        join = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
        done = subprocess.run(
            [*join, sys.executable, "-c", CHILD, str(path), str(group)], capture_output=True, text=True, check=True
        )
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["quota"], told["shapes"]) == (1.0, [[1, 1]])
    assert told["periods"] > 10
    assert told["held"] <= 0.01 * told["periods"] + 1
