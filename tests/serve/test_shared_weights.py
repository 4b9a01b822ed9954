"""Workers of one server have a large model's weights once between them, through swaps and restarts."""

from __future__ import annotations

from pathlib import Path

from corelane.model.registry import ModelManager
from tests.serve.live import LiveServer, serving, tensor
from tests.serve.packages import numeric_package
from tests.serve.test_following import served_version, until

INFER = "/v2/models/m/infer"
BODY = {"inputs": [tensor("features", [1, 2, 3, 4], [1, 4])]}
HIDDEN = (1024, 1024)  # four megabytes of weights and more


def mapped(pid: int) -> set[str]:
    """The files of weights that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if "/weights.bin" in line}


def is_shared(server: LiveServer) -> bool:
    files = [mapped(pid) for pid in server.workers()]
    return len(files) == 2 and bool(files[0]) and files[0] == files[1]


def test_two_workers_share_and_a_new_one_joins(tmp_path: Path) -> None:
    """Answers are those of a worker alone; one that is killed comes back to the same file; in the end it is gone."""
    package = numeric_package(tmp_path, hidden=HIDDEN)
    with serving(package) as alone:
        [worker] = alone.workers()
        expected = alone.ask("POST", INFER, BODY).json["outputs"]
        assert not mapped(worker)
    with serving(package, workers=2) as server:
        assert is_shared(server)
        [file] = mapped(server.workers()[0])
        for _ in range(8):
            assert server.ask("POST", INFER, BODY).json["outputs"] == expected
        before = server.workers()
        server.kill_worker(before[0])
        until(lambda: server.workers() != before and is_shared(server))
        assert mapped(server.workers()[0]) == {file}
        assert server.stop() == 0
    assert not Path(file).exists()


def test_a_version_that_is_gone_leaves_no_weights_behind(tmp_path: Path) -> None:
    """Another version brings its own; those of the one before go when the last worker lets go of them."""
    registry = ModelManager(tmp_path / "registry")
    for width in (1024, 1100):
        numeric_package(Path(registry.place.url), hidden=(width, 1024))
    registry.promote("m", 1)
    with serving(registry=registry.place.url, models="[m]", poll_s=0.05, workers=2) as server:
        assert is_shared(server)
        [first] = mapped(server.workers()[0])
        registry.promote("m", 2)
        until(lambda: served_version(server) == "2" and not Path(first).exists() and is_shared(server))
        assert server.ask("POST", INFER, BODY).status == 200
        assert server.stop() == 0
