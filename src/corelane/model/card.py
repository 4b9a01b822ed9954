"""card.md: the one-page description of a package for people, written from package.json and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from corelane.model.description import Description
from corelane.model.signature import TensorMeta


def render_card(description: Description) -> str:
    """Markdown: what goes in, what comes out, how good it is, where it comes from."""
    provenance = description.provenance
    origin = [
        ("Created", provenance.created),
        ("Corelane", provenance.corelane),
        ("PyTorch", provenance.torch),
        ("ONNX", provenance.onnx),
        ("Data fingerprint", " ".join(str(value) for value in provenance.data_fingerprint.values())),
        ("Configuration digest", provenance.config_digest),
    ]
    about = f"A network for {description.task.replace('_', '-')}. Every figure below was measured when it was trained."
    if description.task == "tensors":
        about = "A network that was imported as a graph. It was not trained here, and how good it is was not measured."
    sections = [
        f"# {_plain(description.name)}, version {description.version}",
        about,
        "## What it takes\n\n" + _table(("Column", "Type", "Shape"), map(_tensor, description.signature.inputs)),
        "## What it answers\n\n" + _table(("Output", "Type", "Shape"), map(_tensor, description.signature.outputs)),
        *_quality(description),
        "## Where it comes from\n\n" + _table(("What", "Value"), origin),
    ]
    return "\n\n".join(sections) + "\n"


def _tensor(tensor: TensorMeta) -> tuple[str, str, str]:
    sizes = ("any" if size == -1 else str(size) for size in tensor.shape[1:])
    return tensor.name, tensor.datatype, " x ".join(["rows", *sizes])


def _quality(description: Description) -> list[str]:
    metrics = [(name, f"{value:.4g}") for name, value in description.metrics.items()]
    return ["## How good it is\n\n" + _table(("Metric", "Value"), metrics)] if metrics else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)


def _plain(text: str) -> str:
    """`text` so that Markdown shows it as it is: a column's name may hold anything."""
    flat = " ".join(text.split())
    return flat if set(flat) == {"-"} else "".join("\\" + char if char in "\\`*_[]<>|#" else char for char in flat)
