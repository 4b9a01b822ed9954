"""Two checks that no linter makes: no import cycle in the package, no relative link in a document that leads astray."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Modules of the package that `tree` imports, wherever the import stands, type checking included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield node.module


def find_cycle() -> str | None:
    """The first import cycle as `a -> b -> a`; the root package's own lazy interface is left out."""
    paths = {module_name(path): path for path in SOURCE.rglob("*.py")}
    graph = {
        name: set(imports(ast.parse(path.read_text()), set(paths))) - {name, "corelane"}
        for name, path in paths.items()
        if name != "corelane"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(error.args[1])
    return None


def broken_links() -> Iterator[str]:
    """Relative links in tracked documents that lead to no file."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    for document in documents:
        for target in LINK.findall(document.read_text(encoding="utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                yield f"{document.relative_to(ROOT)}: link to {target} leads nowhere"


def main() -> int:
    complaints = list(broken_links())
    cycle = find_cycle()
    if cycle:
        complaints.append(f"import cycle: {cycle}")
    for complaint in complaints:
        sys.stderr.write(complaint + "\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
