"""A directory of bundles beside a model of it, through random sequences of what may happen to one.

The model knows which bundles were written, with which content, and which were damaged since. Crashes are writers that
leave what a killed one leaves: a temporary directory that nobody holds.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from corelane.core.errors import BundleError, ConfigError
from corelane.store.bundle import MANIFEST, remove_temporaries, verify_bundle, write_bundle
from corelane.store.durable import discard

KIND = "checkpoint"
NAMES = st.sampled_from(["1", "2", "3", "10"])
FILES = st.dictionaries(st.sampled_from(["a", "b", "folder/a"]), st.binary(min_size=1, max_size=64), min_size=1)


class BundleDirectory(RuleBasedStateMachine):
    """The directory, and what the model says of it: content by name, the damaged ones, and how many leftovers."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.content: dict[str, dict[str, bytes]] = {}
        self.damaged: set[str] = set()
        self.num_left = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(name=NAMES, files=FILES)
    def write(self, name: str, files: dict[str, bytes]) -> None:
        """A name is taken once, whatever became of its bundle."""
        if name in self.content:
            with pytest.raises(ConfigError, match="must not exist yet"):
                self._write(name, files)
        else:
            self._write(name, files)
            self.content[name] = files

    @rule(name=NAMES, files=FILES)
    def fail_to_write(self, name: str, files: dict[str, bytes]) -> None:
        """A writer that raises leaves nothing."""
        with pytest.raises((KeyError, ConfigError)):
            self._write(name, files, fails=True)

    @rule(name=NAMES, files=FILES, is_sealed=st.booleans())
    def die_while_writing(self, name: str, files: dict[str, bytes], is_sealed: bool) -> None:
        """Killed before or after the manifest was written; the bundle had no name yet."""
        left = self.folder / f".{name}.{secrets.token_hex(8)}.tmp"
        left.mkdir()
        _fill(left, files)
        if is_sealed:
            (left / MANIFEST).write_bytes(b"{}")
        self.num_left += 1

    @precondition(lambda self: self.content)
    @rule(data=st.data())
    def die_while_removing(self, data: st.DataObject) -> None:
        """Killed after the renaming, with some of the files gone."""
        name = data.draw(st.sampled_from(sorted(self.content)))
        left = self.folder / f".{name}.{secrets.token_hex(8)}.tmp"
        (self.folder / name).rename(left)
        (left / MANIFEST).unlink()
        self._forget(name)
        self.num_left += 1

    @precondition(lambda self: self.content)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """A removed bundle's name may be used again."""
        name = data.draw(st.sampled_from(sorted(self.content)))
        discard(self.folder / name)
        self._forget(name)

    @precondition(lambda self: self.content)
    @rule(data=st.data(), bit=st.integers(0, 7))
    def damage(self, data: st.DataObject, bit: int) -> None:
        """One bit of one file, anywhere."""
        name = data.draw(st.sampled_from(sorted(self.content.keys() - self.damaged) or sorted(self.content)))
        if name in self.damaged:
            return
        path = self.folder / name / data.draw(st.sampled_from([*sorted(self.content[name]), MANIFEST]))
        old = bytearray(path.read_bytes())
        old[data.draw(st.integers(0, len(old) - 1))] ^= 1 << bit
        path.write_bytes(old)
        self.damaged.add(name)

    @rule()
    def sweep(self) -> None:
        """Leftovers go, and nothing else."""
        remove_temporaries(self.folder)
        self.num_left = 0

    @invariant()
    def what_is_seen_is_what_was_written(self) -> None:
        """Each bundle verifies with its own bytes, or is damaged and refused; the rest are leftovers of the dead."""
        if not hasattr(self, "folder"):
            return
        names = {path.name for path in self.folder.iterdir()}
        assert {name for name in names if not name.startswith(".")} == self.content.keys()
        assert len(names) == len(self.content) + self.num_left
        for name, files in self.content.items():
            if name in self.damaged:
                with pytest.raises(BundleError):
                    verify_bundle(self.folder / name, KIND)
            else:
                assert verify_bundle(self.folder / name, KIND).files.keys() == files.keys()
                assert {file: (self.folder / name / file).read_bytes() for file in files} == files

    def _write(self, name: str, files: dict[str, bytes], *, fails: bool = False) -> None:
        with write_bundle(self.folder / name, KIND) as temporary:
            _fill(temporary, files)
            if fails:
                raise KeyError(name)

    def _forget(self, name: str) -> None:
        del self.content[name]
        self.damaged.discard(name)


def _fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


TestBundleDirectory = BundleDirectory.TestCase
TestBundleDirectory.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
