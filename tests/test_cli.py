"""The command line: every command has help with an example, errors are one line, and exit codes mean what they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from corelane.cli import cli
from corelane.core import errors
from corelane.machine.exit_codes import exit_code

COMMANDS = ["init", "train", "package", "evaluate", "predict", "serve", "doctor", "verify-resume"]


def _invoke(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_command_that_is_installed_is_the_module() -> None:
    """`corelane` beside the interpreter says what `python -m corelane` says."""
    installed = Path(sys.executable).with_name("corelane")
    told = [
        subprocess.run([*command, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
        for command in ([str(installed)], [sys.executable, "-m", "corelane"])
    ]
    assert told[0].split() == told[1].replace("python -m ", "").split()
    assert "serve" in told[0]


RUNS = [f"runs {command}" for command in ("list", "show", "compare", "lineage", "reindex")]

CHECKPOINTS = [f"checkpoints {command}" for command in ("list", "verify", "prune")]

MODELS = [
    f"models {command}"
    for command in ("list", "show", "publish", "promote", "rollback", "unset", "archive", "restore", "delete")
]


@pytest.mark.parametrize(
    "command", [*COMMANDS, *RUNS, *CHECKPOINTS, *MODELS, "plan show", "data check", "config schema", "config show"]
)
def test_help_shows_an_example(command: str) -> None:
    """`--help` of every command ends with a line that can be typed."""
    code, output = _invoke(*command.split(), "--help")
    assert code == 0
    assert f"Example: corelane {command}" in " ".join(output.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_speaks_json(command: str) -> None:
    """Every command takes `--json`."""
    assert "--json" in _invoke(command, "--help")[1]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.DataError("x"), 2),
        (errors.PortInUseError("x"), 2),
        (errors.BundleError("x"), 2),
        (errors.SkewError("x"), 1),
        (errors.WorkerLostError("x"), 1),
        (errors.InterruptedRunError("x"), 75),
        (errors.DiskFullError("x"), 75),
    ],
)
def test_exit_codes_tell_whose_turn_it_is(error: errors.CorelaneError, code: int) -> None:
    """2 is the user's mistake, 1 ours, 75 resumable."""
    assert exit_code(error) == code


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "absent.yaml"],
        ["package", "absent"],
        ["evaluate", "absent", "--input", "absent.csv"],
        ["predict", "absent", "--input", "absent.csv", "--output", "out.csv"],
        ["serve", "absent"],
        ["serve"],
        ["config", "show", "absent.yaml"],
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    """What does not exist is said in one line that names it."""
    done = subprocess.run(
        [sys.executable, "-m", "corelane", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("corelane: ")


def test_an_error_in_json_is_one_object(tmp_path: Path) -> None:
    """With `--json` the error is an object with its code, on standard output."""
    code, output = _invoke("train", tmp_path / "absent.yaml", "--json")
    assert code == 2
    assert json.loads(output)["code"] == "config_invalid"


def test_the_schema_is_json_schema() -> None:
    """`config schema` prints what editors read."""
    code, output = _invoke("config", "schema")
    assert code == 0
    assert "train" in json.loads(output)["properties"]


def test_the_resolved_configuration_is_shown(tmp_path: Path) -> None:
    """`config show` fills in defaults and applies overrides."""
    path = tmp_path / "config.yaml"
    path.write_text("name: a\n")
    code, output = _invoke("config", "show", path, "--set", "train.epochs=7", "--json")
    assert code == 0
    assert json.loads(output)["train"]["epochs"] == 7
