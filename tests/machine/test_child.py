"""A `Child` becomes exactly the program asked for, and nothing of it outlives it or us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from corelane.machine.child import Child


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code, *arguments)


def wait(child: Child) -> int:
    """Block until `child` has ended, then let it say how."""
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    returncode = child.poll()
    assert returncode is not None
    return returncode


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A pipe with a name. Reading it to the end returns only when every process that wrote to it is gone."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


# Says it is ready, and keeps the pipe open until it dies.
READY_AND_WAIT = (
    "import signal, sys; pipe = open(sys.argv[1], 'w'); print('ready', file=pipe, flush=True); signal.pause()"
)


def test_arguments_arrive_unchanged(tmp_path: Path) -> None:
    """No shell touches them: quotes, blanks, braces, line breaks and dollars are themselves."""
    odd = ["", "a b", "it's", '"', "{0}", "$HOME;`id`", "new\nline", "ünï"]
    out = tmp_path / "argv.json"
    code = "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))"
    assert wait(Child(python(code, str(out), *odd))) == 0
    assert json.loads(out.read_text()) == odd


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(75)", 75), ("import os; os.kill(os.getpid(), 11)", -11)]
)
def test_the_end_is_told_and_stays_told(code: str, expected: int) -> None:
    """Exit codes and signals as `subprocess` writes them; ending an ended child again does nothing."""
    child = Child(python(code))
    assert wait(child) == expected
    child.terminate()
    child.kill()
    assert child.poll() == expected


def test_a_running_child_is_not_waited_for(fifo: Path) -> None:
    """`poll` answers None at once; SIGTERM ends a program that does not mind."""
    child = Child(python(READY_AND_WAIT, str(fifo)))
    with fifo.open() as pipe:
        assert pipe.readline() == "ready\n"
        assert child.poll() is None
        child.terminate()
        assert pipe.read() == ""
    assert wait(child) == -signal.SIGTERM


def test_it_leads_a_group_without_our_terminal_input(tmp_path: Path) -> None:
    """Its process group is its own (so Ctrl-C is not sent to it) and its input is empty."""
    out = tmp_path / "out"
    code = "import os, sys; open(sys.argv[1], 'w').write(f'{os.getpid() == os.getpgid(0)} {sys.stdin.read()!r}')"
    assert wait(Child(python(code, str(out)))) == 0
    assert out.read_text() == "True ''"


def test_it_runs_on_the_cpus_it_was_given(tmp_path: Path) -> None:
    """The CPU mask is set before the program begins."""
    cpu = max(os.sched_getaffinity(0))
    out = tmp_path / "out"
    code = "import os, sys; open(sys.argv[1], 'w').write(str(os.sched_getaffinity(0)))"
    assert wait(Child(python(code, str(out)), frozenset({cpu}))) == 0
    assert out.read_text() == str({cpu})


def test_it_starts_with_the_usual_signals(tmp_path: Path) -> None:
    """A program that is not Python finds SIGPIPE as any program does, although our interpreter ignores it."""
    out = tmp_path / "status"
    assert wait(Child(("cp", "/proc/self/status", str(out)))) == 0
    ignored = next(line for line in out.read_text().splitlines() if line.startswith("SigIgn:"))
    assert int(ignored.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_a_program_that_is_missing_or_no_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """127 and 126 as in a shell, each with a line that names the program; CPUs that are not there are 2."""
    text = tmp_path / "text"
    text.write_text("no program")
    assert wait(Child(("no-such-program-anywhere",))) == 127
    assert wait(Child((str(text),))) == 126
    assert wait(Child(("true",), frozenset({100_000}))) == 2
    errors = capfd.readouterr().err.splitlines()
    assert "must exist, got 'no-such-program-anywhere'" in errors[0]
    assert "must be executable" in errors[1]
    assert "got [100000]" in errors[2]


FORKS = (
    "import os, signal, sys; pipe = open(sys.argv[1], 'w'); child = os.fork()\n"
    "if child: print('ready', file=pipe, flush=True)\n"
    "signal.pause()"
)


@pytest.mark.parametrize("end", ["kill", "crash"])
def test_what_the_child_started_ends_with_it(fifo: Path, end: str) -> None:
    """A grandchild is gone both when we kill the child and when the child dies by itself."""
    child = Child(python(FORKS, str(fifo)))
    with fifo.open() as pipe:
        assert pipe.readline() == "ready\n"
        if end == "kill":
            child.kill()
        else:
            os.kill(child.pid, signal.SIGSEGV)
            assert wait(child) == -signal.SIGSEGV
        assert pipe.read() == "", "only when all writers are gone does the pipe end"


OWNER = "import signal, sys; from corelane.machine.child import Child; Child(sys.argv[1:]); signal.pause()"


def test_it_dies_with_the_process_that_started_it(fifo: Path) -> None:
    """Our process is killed so that it can do nothing; the child ends all the same."""
    argv = [sys.executable, "-c", OWNER, *python(READY_AND_WAIT, str(fifo))]
    with subprocess.Popen(argv) as owner, fifo.open() as pipe:
        assert pipe.readline() == "ready\n"
        owner.kill()
        assert pipe.read() == ""


def test_it_dies_with_the_thread_that_started_it(fifo: Path) -> None:
    """What the docstring warns of is so: Linux ties the child to the thread."""
    children: list[Child] = []
    reader_opened = threading.Event()

    def start() -> None:
        children.append(Child(python(READY_AND_WAIT, str(fifo))))
        reader_opened.wait()

    thread = threading.Thread(target=start)
    thread.start()
    with fifo.open() as pipe:
        assert pipe.readline() == "ready\n"
        reader_opened.set()
        thread.join()
        assert pipe.read() == ""
    assert wait(children[0]) == -signal.SIGKILL
