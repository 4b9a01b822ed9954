"""Fixtures of every test: capability skips (and no other skip), and a check that nothing leaks."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.capabilities import CAPABILITIES, is_explained
from tests.turns import turn

pytest_plugins = ["tests.servers.postgres", "tests.servers.s3"]

settings.register_profile("untimed", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("untimed")

_unexplained_skips: list[str] = []


def pytest_configure() -> None:
    """A shell has what it starts in the background ignore Ctrl-C, and nohup a closed terminal; tests send both signals,
    and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-capabilities",
        action="store_true",
        help="fail, instead of skipping, where the machine lacks a capability",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """A test that is marked `alone` waits for those in other processes to end, and none begins before it has ended."""
    if not hasattr(item.config, "workerinput"):  # one process runs all of them
        return (yield)
    folder = Path(item.config.option.basetemp).parent  # of all processes of this run
    with turn(folder, is_alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        name = marker.args[0]
        capability = CAPABILITIES[name]
        if capability.is_present():
            continue
        reason = f"needs {name}: install the Debian package {capability.debian_package}"
        if item.config.getoption("--require-capabilities"):
            pytest.fail(reason)
        pytest.skip(reason)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not is_explained(reason.removeprefix("Skipped: "), report.nodeid):
            _unexplained_skips.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _unexplained_skips:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for skip in _unexplained_skips:
        terminalreporter.write_line(f"FAILED: skipped for a reason outside tests/capabilities.py: {skip}", red=True)


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # of a thread that has just ended
            found.update(map(int, task.read_text().split()))
    return found


def _open_below(folder: Path) -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(f"{folder}/"):
            found.add(target)
    return found


@pytest.fixture(autouse=True)
def no_leaks(tmp_path: Path) -> Iterator[None]:
    """A test leaves no thread, no child process and no file of its own folder open behind it."""
    threads, children = set(threading.enumerate()), _children()
    yield
    stray = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    for thread in stray:
        thread.join(timeout=5.0)
    assert not [thread.name for thread in stray if thread.is_alive()], "the test left threads running"
    assert not _children() - children, "the test left child processes running"
    if _open_below(tmp_path):
        gc.collect()  # a caught exception's frames may still hold memory-mapped arrays
    assert not _open_below(tmp_path), "the test left files open"
