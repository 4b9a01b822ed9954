"""Every example runs as a program and ends well."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(path: Path, tmp_path: Path) -> None:
    """What the examples show works as it stands, in an empty folder."""
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert list(tmp_path.glob("packages/*/1/package.json"))


def test_the_readme_shows_the_example_as_it_is() -> None:
    """The README's Python lines are those of `ten_lines.py`, so they run."""
    readme = (EXAMPLES[0].parent.parent / "README.md").read_text()
    shown = readme.partition("```python\n")[2].partition("```")[0]
    assert shown == (EXAMPLES[0].parent / "ten_lines.py").read_text().partition('"""\n\n')[2]
