"""A user's module: what it takes, what it gives, and its graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from corelane.core.errors import ConfigError
from corelane.data.schema import Column
from corelane.model.foreign.inspecting import inspected
from corelane.model.foreign.module import ForeignModule
from corelane.model.foreign.trying import answers_of, opened

HERE = "tests.model.foreign.test_module"
COLUMNS = (
    Column("x", "array", (4,), nullable=False, dtype="float32"),
    Column("series", "array", (-1, 3), nullable=False, dtype="float32"),
)


class Two(nn.Module):
    """A vector and a series of free length."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.vector, self.series, self.head = nn.Linear(4, hidden), nn.Linear(3, hidden), nn.Linear(hidden, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(
        self, x: torch.Tensor, series: torch.Tensor, scale: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        hidden = self.dropout(torch.relu(self.vector(x) + self.series(series).mean(1)))
        logits = self.head(hidden)
        return {"logits": logits if scale is None else logits * scale[:, None], "best": logits.argmax(1)}


class Odd(Two):
    def forward(self, x: torch.Tensor, series: torch.Tensor) -> str:  # type: ignore[override]
        return "no tensor"


def weights(folder: Path, hidden: int = 6) -> Path:
    torch.manual_seed(0)
    save_file(Two(hidden).state_dict(), folder / "w.safetensors")
    return folder / "w.safetensors"


def rows(num_rows: int = 5, length: int = 7) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "x": random.normal(size=(num_rows, 4)).astype(np.float32),
        "series": random.normal(size=(num_rows, length, 3)).astype(np.float32),
    }


def test_its_graph_answers_as_it_does(tmp_path: Path) -> None:
    """In evaluation mode, for any number of rows and any length."""
    module = ForeignModule(f"{HERE}:Two", weights(tmp_path), {"hidden": 6})
    assert module.inputs(["series", "x", "other"]) == ["x", "series"]
    graph, content = inspected(module.graph(COLUMNS, rows(num_rows=1)))
    assert [(one.name, one.shape) for one in graph.inputs] == [("x", (4,)), ("series", (-1, 3))]
    for given in (rows(), rows(3, 2)):
        got = answers_of(opened(content), given)
        for name, values in module.answers(given).items():
            np.testing.assert_allclose(got[name], values, atol=1e-5)


@pytest.mark.parametrize(
    ("path", "arguments", "words"),
    [
        ("os:system", {}, r"must name a torch\.nn\.Module class, got 'os:system'"),
        ("no_such_module:Net", {}, "must name a module that can be imported"),
        (f"{HERE}:Three", {}, "must name a class of"),
        (f"{HERE}:Two", {"width": 6}, "--argument must fit"),
        (f"{HERE}:Two", {"hidden": 7}, "with each parameter of"),
    ],
)
def test_what_is_no_such_module_is_refused(tmp_path: Path, path: str, arguments: dict[str, int], words: str) -> None:
    """Nothing but a subclass of Module is called."""
    with pytest.raises(ConfigError, match=words):
        ForeignModule(path, weights(tmp_path), arguments)


class Between(nn.Module):
    """A parameter that need not be given stands between two that are; its two tables are one."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight

    def forward(
        self, tokens: torch.Tensor, mask: torch.Tensor | None = None, *, scale: torch.Tensor | None = None
    ) -> torch.Tensor:
        hidden = self.table(tokens).mean(1) if mask is None else (self.table(tokens) * mask[..., None]).sum(1)
        return self.head(hidden) * (1.0 if scale is None else scale[:, None])


def test_inputs_are_given_by_name_and_weights_may_be_tied(tmp_path: Path) -> None:
    """What a parameter in between does not get, the next one does not get in its place."""
    torch.manual_seed(0)
    save_model(Between(), str(tmp_path / "w.safetensors"))
    module = ForeignModule(f"{HERE}:Between", tmp_path / "w.safetensors", {})
    assert module.inputs(["scale", "tokens"]) == ["tokens", "scale"]
    columns = (
        Column("tokens", "array", (3,), nullable=False, dtype="int64"),
        Column("scale", "array", (), nullable=False, dtype="float32"),
    )
    given = {"tokens": np.array([[1, 2, 3], [4, 5, 6]]), "scale": np.array([0.5, 2.0], dtype=np.float32)}
    _, content = inspected(module.graph(columns, given))
    answers = module.answers(given)
    np.testing.assert_allclose(answers_of(opened(content), given)["output"], answers["output"], atol=1e-5)
    halved = module.answers({**given, "scale": given["scale"] / 2})
    np.testing.assert_allclose(halved["output"] * 2, answers["output"], atol=1e-6)


class Sum(nn.Module):
    """Two numbers a row."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class Named(nn.Module):
    """Its output has the name that the exporter gives the value before it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"embedding": self.table(x).sum(1)}


def test_an_output_may_have_the_name_of_a_value_inside(tmp_path: Path) -> None:
    """The exporter names values after the operators that make them."""
    save_file(Named().state_dict(), tmp_path / "w.safetensors")
    module = ForeignModule(f"{HERE}:Named", tmp_path / "w.safetensors", {})
    module.inputs(["x"])
    given = {"x": np.array([[1, 2], [3, 4]])}
    graph, content = inspected(module.graph([Column("x", "array", (2,), nullable=False, dtype="int64")], given))
    assert [one.name for one in graph.outputs] == ["embedding"]
    np.testing.assert_allclose(answers_of(opened(content), given)["embedding"], module.answers(given)["embedding"])


def test_weights_must_be_safetensors(tmp_path: Path) -> None:
    """A checkpoint of torch is a pickle, and is not read."""
    torch.save(Two(6).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="--weights must be a safetensors file"):
        ForeignModule(f"{HERE}:Two", tmp_path / "w.pt", {"hidden": 6})


def test_inputs_and_outputs_are_named_or_told(tmp_path: Path) -> None:
    """A column for each parameter that has no default; tensors out."""
    with pytest.raises(ConfigError, match="got none for 'series'"):
        ForeignModule(f"{HERE}:Two", weights(tmp_path), {"hidden": 6}).inputs(["x"])
    odd = ForeignModule(f"{HERE}:Odd", weights(tmp_path), {"hidden": 6})
    odd.inputs(["x", "series"])
    with pytest.raises(ConfigError, match="must give a tensor, several, or a mapping"):
        odd.answers(rows())
    two = ForeignModule(f"{HERE}:Two", weights(tmp_path), {"hidden": 6})
    two.inputs(["x", "series"])
    with pytest.raises(ConfigError, match="must take the rows of --data"):
        two.answers({**rows(), "x": rows()["x"][:, :2]})
