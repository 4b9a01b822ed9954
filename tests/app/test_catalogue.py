"""Questions about runs: right whatever was recorded, and the same after the index was deleted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelane.app import package, train
from corelane.app.catalogue import compare_runs, lineage, list_runs, reindex, show_run
from corelane.app.catalogue_text import comparison_text, lineage_text, reindex_text, run_text, runs_text
from corelane.app.package_records import checkpoint_digest
from corelane.app.recording import INDEX, SERVINGS, read_servings, recorded_servings
from corelane.app.run_records import RunReader, run_key
from corelane.app.runs import CONFIG_NAME, RUN_NAME, held
from corelane.core.clock import ManualClock
from corelane.core.errors import ConfigError, NotFoundError
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.store.metadata import MetadataStore
from tests.app.run_directories import RunDirectory, publish


def statuses(answer: dict[str, Any]) -> dict[str, str]:
    return {run["name"]: run["status"] for run in answer["runs"]}


# --- list -------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    """By the time of their start, at most as many as asked for, of one name if it is given."""
    for number, name in enumerate(["digits", "other", "digits"]):
        RunDirectory(tmp_path, name, created_s=1000.0 + number).trained()
    assert list(statuses(list_runs(tmp_path))) == ["digits-002", "other-001", "digits-001"]
    assert list(statuses(list_runs(tmp_path, "digits", limit=1))) == ["digits-002"]
    first = list_runs(tmp_path)["runs"][0]
    assert (first["started"], first["num_steps"]) == ("1970-01-01T00:16:42Z", 4)
    assert first["metrics"] == {"validation_loss": 0.25, "test_accuracy": 0.9}


def test_a_run_is_running_only_while_a_process_holds_it(tmp_path: Path) -> None:
    """Finished, failed, interrupted and running are told apart, also after the index has seen another state."""
    done, failed, stopped, live = (RunDirectory(tmp_path) for _ in range(4))
    done.trained()
    failed.fail()
    stopped.fail("run_interrupted")
    with held(live.path):
        assert list(statuses(list_runs(tmp_path)).values()).count("running") == 1
        assert statuses(list_runs(tmp_path))[live.path.name] == "running"
    found = statuses(list_runs(tmp_path))
    assert found == {
        done.path.name: "finished",
        failed.path.name: "failed",
        stopped.path.name: "interrupted",
        live.path.name: "interrupted",
    }
    live.trained()
    assert statuses(list_runs(tmp_path))[live.path.name] == "finished"


HOLD = """
import sys
from pathlib import Path
from corelane.app.runs import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_whose_process_was_killed_is_interrupted(tmp_path: Path) -> None:
    """No trace but the lock says that a process lives, and the lock dies with it."""
    run = RunDirectory(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert statuses(list_runs(tmp_path)) == {"digits-001": "running"}
        child.kill()
    assert statuses(list_runs(tmp_path)) == {"digits-001": "interrupted"}


def test_asking_never_keeps_a_trainer_out(tmp_path: Path) -> None:
    """A question holds the run's lock for a moment; a trainer that starts in that moment starts all the same."""
    run = RunDirectory(tmp_path)
    program = "import sys\nfrom pathlib import Path\nfrom corelane.app.runs import is_held\nprint('go', flush=True)\n"
    program += "while True: is_held(Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", program, run.path], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        for _ in range(30):
            with held(run.path):
                pass
        child.kill()


def test_a_run_of_another_host_that_fell_silent_is_not_running(tmp_path: Path) -> None:
    """In a shared index, a run that nobody has heard of for long is taken for interrupted."""
    run = RunDirectory(tmp_path / "elsewhere")
    url = f"sqlite:///{tmp_path / 'shared'}"
    (tmp_path / "runs").mkdir()
    clock = ManualClock(5000.0)
    with held(run.path), closing(MetadataStore(url)) as store:
        records = RunReader(run.path).read(clock.now())
        store.write([_elsewhere(record) for record in records])
    assert statuses(list_runs(tmp_path / "runs", url=url, clock=clock)) == {"digits-001": "running"}
    clock.advance(3600.0)
    assert statuses(list_runs(tmp_path / "runs", url=url, clock=clock)) == {"digits-001": "interrupted"}


def _elsewhere(record: Any) -> Any:
    return replace(record, host="elsewhere") if hasattr(record, "host") else record


def test_a_deleted_run_is_no_longer_listed(tmp_path: Path) -> None:
    """The directory is the truth, also about what is gone."""
    run = RunDirectory(tmp_path).trained()
    RunDirectory(tmp_path).trained()
    assert len(list_runs(tmp_path)["runs"]) == 2
    shutil.rmtree(run.path)
    assert list(statuses(list_runs(tmp_path))) == ["digits-002"]


def test_runs_that_were_moved_are_the_same_runs(tmp_path: Path) -> None:
    """A folder that is moved with its index answers from its new place."""
    RunDirectory(tmp_path / "runs").trained()
    before = list_runs(tmp_path / "runs")["runs"]
    (tmp_path / "runs").rename(tmp_path / "moved")
    after = list_runs(tmp_path / "moved")["runs"]
    assert [run.pop("directory") for run in after] == [str(tmp_path / "moved" / "digits-001")]
    assert [{key: value for key, value in run.items() if key != "directory"} for run in before] == after


def test_no_folder_is_said(tmp_path: Path) -> None:
    """A folder that is not there is the user's to correct, and is not made."""
    with pytest.raises(ConfigError, match="must be the folder of runs"):
        list_runs(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_name_that_is_none_is_said(tmp_path: Path) -> None:
    """Each question names what it was asked for."""
    RunDirectory(tmp_path).trained()
    for question in (show_run, lineage):
        with pytest.raises(NotFoundError, match="nobody"):
            question("nobody", runs=tmp_path)
    with pytest.raises(ConfigError, match="two or more"):
        compare_runs(["digits-001"], runs=tmp_path)


# --- show, compare, lineage -------------------------------------------------------------------------------------------


def test_a_run_is_shown_with_all_that_is_known(tmp_path: Path) -> None:
    """By its directory or by its name: the answer is the same."""
    run = RunDirectory(tmp_path / "runs").trained()
    shown = show_run(run.path)
    assert shown == show_run("digits-001", runs=tmp_path / "runs")
    assert shown["seed"] == 7
    assert shown["data"]["fingerprint"] == "content:ab"
    assert shown["data"]["schema"] == {"columns": ["x"]}
    assert shown["history"]["loss"] == {
        "num_values": 4,
        "first": 1.0,
        "last": 0.25,
        "last_step": 4,
        "min": 0.25,
        "min_step": 4,
        "max": 1.0,
        "max_step": 1,
    }
    assert [(one["step"], one["is_best"]) for one in shown["checkpoints"]] == [(4, True)]
    assert shown["checkpoints"][0]["digest"] == checkpoint_digest(run.path / "checkpoints" / "4")


def test_no_secret_is_in_the_index(tmp_path: Path) -> None:
    """Passwords in URLs and storage options stay where the user wrote them."""
    RunDirectory(tmp_path / "runs").trained()
    assert "geheim" not in json.dumps(show_run("digits-001", runs=tmp_path / "runs"))
    assert b"geheim" not in (tmp_path / "runs" / INDEX).read_bytes()


def test_runs_are_compared_side_by_side(tmp_path: Path) -> None:
    """What differs in the configuration, and every metric, with one value a run."""
    first, second = RunDirectory(tmp_path, epochs=3), RunDirectory(tmp_path, epochs=5)
    first.trained()
    second.prepare("cd")
    second.finish(validation_loss=0.5)
    answer = compare_runs([first.path, second.path])
    assert answer["config"] == {"train.epochs": [3, 5]}
    assert answer["data"]["fingerprint"] == ["content:ab", "content:cd"]
    assert answer["metrics"] == {"test_accuracy": [0.9, None], "validation_loss": [0.25, 0.5]}


def test_lineage_leads_from_the_source_to_the_server(tmp_path: Path) -> None:
    """A run and its package tell one chain, and a package that was trained elsewhere tells what it knows."""
    run = RunDirectory(tmp_path / "runs").trained()
    digest = checkpoint_digest(run.path / "checkpoints" / "4")
    path = publish(tmp_path / "packages", run=run_key(run.path), checkpoint=digest)
    publish(tmp_path / "packages", version=2)
    with (
        SystemLogger() as logger,
        recorded_servings([path], tmp_path / "runs", None, logger=logger, clock=ManualClock(2000.0)) as note,
    ):
        note("http://127.0.0.1:8000")
        asked = [lineage(run.path), lineage(path, runs=tmp_path / "runs"), lineage("digits/1", runs=tmp_path / "runs")]
    assert asked[0] == asked[1] == asked[2]
    chain = asked[0]
    assert chain["source"]["path"] == "/data/rows.csv"
    assert chain["data"]["fingerprint"] == "content:ab"
    assert chain["run"]["name"] == "digits-001"
    assert [one["checkpoint"] for one in chain["packages"]] == [chain["checkpoints"][0]["digest"]]
    (serving,) = chain["packages"][0]["servings"]
    assert (serving["url"], serving["since"], serving["is_serving"]) == (
        "http://127.0.0.1:8000",
        "1970-01-01T00:33:20Z",
        True,
    )
    (serving,) = lineage(run.path)["packages"][0]["servings"]
    assert (serving["until"], serving["is_serving"]) == ("1970-01-01T00:33:20Z", False)
    stranger = lineage("digits/2", runs=tmp_path / "runs")
    assert (stranger["run"], [one["version"] for one in stranger["packages"]]) == (None, [2])


def test_servings_are_bounded_and_torn_lines_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file moves aside when it is full, one older file is kept, and half a line is skipped."""
    monkeypatch.setattr("corelane.app.recording.MAX_SERVINGS_BYTES", 1000)
    path = publish(tmp_path / "packages")
    for start in range(20):
        with (
            SystemLogger() as logger,
            recorded_servings([path], tmp_path, None, logger=logger, clock=ManualClock(float(start))) as note,
        ):
            note("http://127.0.0.1:8000")
    assert sum(one.stat().st_size for one in tmp_path.glob(f"{SERVINGS}*")) < 3000
    with (tmp_path / SERVINGS).open("ab") as file:
        file.write(b'{"package": "abc')
    found = read_servings(tmp_path)
    assert found[-1].since_s == 19.0
    assert found[-1].until_s == 19.0


def test_a_package_in_another_place_is_not_noted(tmp_path: Path) -> None:
    """The gate's server serves a package that is not published; it leaves no trace."""
    path = publish(tmp_path / "packages").rename(tmp_path / "staged")
    with SystemLogger() as logger, recorded_servings([path], tmp_path, None, logger=logger) as note:
        note("http://127.0.0.1:8000")
    assert not (tmp_path / SERVINGS).exists()


# --- reindex ----------------------------------------------------------------------------------------------------------


def test_answers_are_the_same_after_the_index_was_deleted(tmp_path: Path) -> None:
    """A real run and its package, recorded while they happened: list, show and lineage of a rebuilt index are equal."""
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    config = {
        "name": "a",
        "data": {"target": "y"},
        "machine": {"cache": str(tmp_path / "cache"), "memory": "64MiB"},
        "train": {"epochs": 2, "log_interval": 1},
    }
    runs, packages = tmp_path / "runs", tmp_path / "packages"
    run = train(config, data={"x": x, "y": (x[:, 0] > 0).astype(int)}, runs=runs, quiet=True)
    path = package(run, directory=packages)
    with closing(MetadataStore(f"sqlite:///{runs / INDEX}")) as store:
        recorded = (store.runs()[0].status, len(store.metrics(run_key(run.directory))), len(store.packages()))
    assert recorded[0] == "finished"
    assert recorded[1] > 0
    assert recorded[2] == 1
    before = [list_runs(runs), show_run(run.directory), lineage(run.directory), lineage(path, runs=runs)]
    assert before[2]["packages"][0]["checkpoint"] == before[2]["checkpoints"][-1]["digest"]
    (runs / INDEX).unlink()
    assert reindex(runs, packages) == {"num_runs": 1, "num_packages": 1, "problems": []}
    assert [list_runs(runs), show_run(run.directory), lineage(run.directory), lineage(path, runs=runs)] == before


STEPS = st.sampled_from(["prepare", "log", "save", "back", "finish", "fail", "poll", "poll", "reset"])


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_reindexing_says_what_recording_said(steps: list[str]) -> None:
    """Whatever a run does, and whenever the recorder looked, the index is the one that is made from the directory."""
    with tempfile.TemporaryDirectory() as folder, closing(MetadataStore("sqlite://")) as recorded:
        run = RunDirectory(Path(folder))
        reader = RunReader(run.path)
        for number, step in enumerate(steps):
            if step == "prepare" and not (run.path / "data").exists():
                run.prepare()
            elif step == "log":
                run.log(number % 4)
            elif step == "save":
                run.save()
            elif step == "back":
                run.go_back(number % 5)
            elif step == "finish":
                run.finish()
            elif step == "fail":
                run.fail()
            elif step == "reset":
                reader.reset()
            elif step == "poll":
                recorded.write(reader.read(float(number)))
        recorded.write(reader.read(1000.0, is_over=True))
        with closing(MetadataStore("sqlite://")) as rebuilt:
            rebuilt.write(RunReader(run.path).read(1000.0))
            assert everything(recorded) == everything(rebuilt)


def everything(store: MetadataStore) -> list[Any]:
    """All that is known of the runs, but for when somebody looked."""
    found = [replace(run, seen_s=0.0) for run in store.runs()]
    parts = [
        (store.metrics(run.key), store.checkpoints(run.key), run.dataset and store.dataset(run.dataset))
        for run in found
    ]
    return [found, parts]


def broken(run: RunDirectory, how: str) -> None:
    data = run.path / "data"
    match how:
        case "config is no YAML":
            (run.path / CONFIG_NAME).write_bytes(b"\xff\xfe{{{")
        case "config is a list":
            (run.path / CONFIG_NAME).write_text("[1, 2]")
        case "result is no JSON":
            (run.path / "result.json").write_text("{")
        case "result is a list":
            (run.path / "result.json").write_text("[]")
        case "data lack a file":
            (data / "pipeline.json").unlink()
        case "data have no manifest":
            (data / "manifest.json").unlink()
        case "run.json is a number":
            (run.path / RUN_NAME).write_text("1")
        case "run.json has another key":
            (run.path / RUN_NAME).write_text(json.dumps({"key": "../x", "created_s": 1.0}))
        case "a metric's name in the result":
            run.finish(**{"not a\nname": 1.0})


@pytest.mark.parametrize(
    "how",
    [
        "config is no YAML",
        "config is a list",
        "result is no JSON",
        "result is a list",
        "data lack a file",
        "data have no manifest",
        "run.json is a number",
        "run.json has another key",
        "a metric's name in the result",
    ],
)
def test_broken_directories_are_told_and_left_out(tmp_path: Path, how: str) -> None:
    """One broken run does not hide the others, and its name is told."""
    broken(RunDirectory(tmp_path).trained(), how)
    RunDirectory(tmp_path).trained()
    answer = reindex(tmp_path)
    assert answer["num_runs"] == 1
    assert len(answer["problems"]) == 1
    assert "digits-001" in answer["problems"][0]
    assert list(statuses(list_runs(tmp_path))) == ["digits-002"]


def test_a_pipe_in_place_of_a_file_does_not_hold_up(tmp_path: Path) -> None:
    """What is no regular file is refused, not waited for."""
    run = RunDirectory(tmp_path).trained()
    (run.path / "result.json").unlink()
    os.mkfifo(run.path / "result.json")
    assert "digits-001" in reindex(tmp_path)["problems"][0]


def test_broken_parts_of_a_good_run_are_told(tmp_path: Path) -> None:
    """A torn checkpoint and a line of the history that is none cost themselves only."""
    run = RunDirectory(tmp_path).trained()
    run.log(2)
    run.save()
    (run.path / "checkpoints" / "4" / "state.json").write_text("")
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'nonsense\n{"kind": "step", "step": 9, "epoch": 0, "loss": NaN}\n{"kind": "step", "step": 10')
    problems = reindex(tmp_path)["problems"]
    assert len(problems) == 3
    shown = show_run(run.path)
    assert [one["step"] for one in shown["checkpoints"]] == [6]
    assert shown["history"]["loss"]["num_values"] == 6


def test_broken_packages_are_told_and_left_out(tmp_path: Path) -> None:
    """Altered in size, moved to another version, or no package at all."""
    runs, packages = tmp_path / "runs", tmp_path / "packages"
    RunDirectory(runs).trained()
    publish(packages)
    shutil.copytree(packages / "digits" / "1", packages / "digits" / "7")
    (packages / "digits" / "3").mkdir()
    with (publish(packages, version=4) / "package.json").open("a") as file:
        file.write(" ")
    (packages / "served").mkdir()
    answer = reindex(runs, packages)
    assert (answer["num_packages"], len(answer["problems"])) == (1, 3)


def test_a_copied_run_is_told(tmp_path: Path) -> None:
    """Two directories of one key are one run and a copy, whichever is looked at first."""
    run = RunDirectory(tmp_path).trained()
    shutil.copytree(run.path, tmp_path / "digits-002")
    for answer in (reindex(tmp_path)["problems"], list_runs(tmp_path)["notes"]):
        assert ["digits-002" in note and "copy" in note for note in answer] == [True]
    assert list(statuses(list_runs(tmp_path))) == ["digits-001"]


def test_a_run_of_an_earlier_release_is_indexed(tmp_path: Path) -> None:
    """Without run.json the key comes from name and configuration, and stays."""
    run = RunDirectory(tmp_path).trained()
    (run.path / RUN_NAME).unlink()
    first = list_runs(tmp_path)["runs"]
    (tmp_path / INDEX).unlink()
    assert list_runs(tmp_path)["runs"] == first


def test_what_other_folders_hold_stays(tmp_path: Path) -> None:
    """A shared index knows several folders; reindexing one leaves the others."""
    url = f"sqlite:///{tmp_path / 'shared'}"
    for name in ("one", "two"):
        RunDirectory(tmp_path / name, name).trained()
        reindex(tmp_path / name, url=url)
    shutil.rmtree(tmp_path / "one" / "one-001")
    reindex(tmp_path / "two", url=url)
    assert list(statuses(list_runs(tmp_path / "two", url=url))) == ["two-001"]


def test_runs_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    """In a shared index a question about a folder's run is answered about that one."""
    url = f"sqlite:///{tmp_path / 'shared'}"
    starts = {"one": 1.0, "two": 2.0}
    paths = [RunDirectory(tmp_path / name, created_s=start).trained().path for name, start in starts.items()]
    for path in paths:
        reindex(path.parent, url=url)
    for path in paths:
        assert show_run(path, url=url)["directory"] == str(path)
        assert lineage(path, url=url)["run"]["directory"] == str(path)
    assert len(list_runs(tmp_path / "one", url=url)["runs"]) == 2


@pytest.mark.needs("postgres")
def test_postgresql_gives_the_same_answers(tmp_path: Path, database: str) -> None:
    """Both databases say the same of the same directories."""
    run = RunDirectory(tmp_path / "runs").trained()
    path = publish(tmp_path / "packages", run=run_key(run.path))
    reindex(tmp_path / "runs", tmp_path / "packages", url=database)
    for question in (list_runs(tmp_path / "runs"), list_runs(tmp_path / "runs", url=database)):
        assert list(statuses(question)) == ["digits-001"]
    assert show_run(run.path) == show_run(run.path, url=database)
    assert lineage(path, runs=tmp_path / "runs") == lineage(path, runs=tmp_path / "runs", url=database)


# --- text -------------------------------------------------------------------------------------------------------------


def test_answers_as_text(tmp_path: Path) -> None:
    """Aligned, whole, and nothing that a file says can move the cursor."""
    run = RunDirectory(tmp_path / "runs").trained()
    failed = RunDirectory(tmp_path / "runs", created_s=2000.0)
    failed.fail()
    record = {"code": "loss_not_finite", "message": "\x1b[2J the loss must be finite", "detail": ""}
    (failed.path / "error.json").write_text(json.dumps(record))
    publish(tmp_path / "packages", run=run_key(run.path))
    rows = runs_text(list_runs(tmp_path / "runs")).splitlines()
    assert rows[0].split() == ["run", "status", "started", "took", "steps", "reached"]
    assert rows[2].split()[:2] == ["digits-002", "failed"]
    assert "test_accuracy 0.9" in rows[3]
    assert "\x1b" not in run_text(show_run(failed.path))
    assert "source        filesystem /data/rows.csv" in run_text(show_run(run.path))
    compared = comparison_text(compare_runs([run.path, failed.path]))
    assert "metrics: test_accuracy" in compared
    traced = lineage_text(lineage(run.path)).splitlines()
    assert [line.split()[0] for line in traced] == ["source", "data", "run", "checkpoint", "package"]
    assert reindex_text(reindex(tmp_path / "runs")).startswith("indexed 2 runs and 1 packages")
    (tmp_path / "empty").mkdir()
    assert runs_text(list_runs(tmp_path / "empty")) == "no runs yet"


def test_the_key_of_the_configuration(tmp_path: Path) -> None:
    """Without a word the index lies with the runs; with one it lies there."""
    assert ObserveConfig().metadata is None
    RunDirectory(tmp_path / "runs").trained()
    list_runs(tmp_path / "runs", url=f"sqlite:///{tmp_path / 'other'}")
    assert (tmp_path / "other").exists()
    assert not (tmp_path / "runs" / INDEX).exists()


def test_asking_imports_neither_torch_nor_a_runtime() -> None:
    """`corelane runs` starts fast, and SQLAlchemy is loaded by the question and not by the import."""
    program = "import sys\nfrom corelane.app import catalogue, recording\nfrom corelane.app import catalogue_text\n"
    program += "print([name for name in ('torch', 'onnxruntime', 'sqlalchemy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
