"""Loading and unloading models when a caller asks for it, in every worker of a server.

The worker that is asked does it first; when that went well it leaves word in a folder of the server, where the siblings
look, and answers when they have followed. A worker that is started anew finds there what it should serve.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from corelane.core.errors import (
    CorelaneError,
    ForbiddenError,
    MemoryBudgetError,
    NotFoundError,
    NotReadyError,
    RequestError,
)
from corelane.core.types import JsonObject
from corelane.observe.log import SystemLogger
from corelane.serve.keeper import Keeper, public_reason
from corelane.store.durable import write_atomic, write_new

LOOK_S = 0.1  # between two looks for word from a sibling
VERSION = "version"
"""The parameter of a load that says which: an alias or a number."""

NOT_ALLOWED = (
    "loading and unloading must be allowed by the server, got a call where serve.model_control is none; "
    "promote a version in the registry, or start the server with serve.model_control: explicit"
)
ELSEWHERE = (
    "loading and unloading must be asked for on the port of management, got a call on another; "
    "see serve.management_port, or set it to main to have them answered here"
)

_GONE = ".gone"
_OVERRIDES = ("config", "file:")


class ModelControl(Protocol):
    """What loads and unloads. Raises `ForbiddenError`, `NotFoundError`, `RequestError` and what loading raises."""

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Serve the model `name`, or a newer version of it."""
        ...

    async def unload(self, name: str) -> None:
        """Serve it no more."""
        ...


class NoControl:
    """Nobody may load or unload here; `why` says what would allow it."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:  # noqa: ARG002 - whatever they are
        """Refuse."""
        raise ForbiddenError(self._why)

    async def unload(self, name: str) -> None:  # noqa: ARG002 - whichever it is
        """Refuse."""
        raise ForbiddenError(self._why)


class ExplicitControl:
    """Owns which models are loaded, by word of callers and of siblings, and nothing else.

    `keeper_of` makes the keeper of a model that is not known yet, or raises `NotFoundError`. `siblings` are the names
    of all workers, `own` that of this one; `folder` is theirs alone. `timeout_s` is how long siblings may take.
    """

    def __init__(
        self,
        keepers: Mapping[str, Keeper],
        keeper_of: Callable[[str], Keeper],
        logger: SystemLogger,
        *,
        folder: Path,
        own: str,
        siblings: Sequence[str],
        timeout_s: float,
    ) -> None:
        self._keepers = dict(keepers)
        self._keeper_of = keeper_of
        self._logger = logger
        self._folder = folder
        self._own = own
        self._siblings = [name for name in siblings if name != own]
        self._timeout_s = timeout_s
        self._seen = 0
        self._turn = asyncio.Lock()  # what is done here and word of it are one step

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """See `ModelControl.load`."""
        for key in parameters:
            if key.startswith(_OVERRIDES):
                raise RequestError(f"a model must be loaded as it was published, got the parameter {key[:40]!r}")
        label = parameters.get(VERSION)
        if label is not None and type(label) not in (str, int):
            raise RequestError(f"{VERSION} must be an alias or a number, got {label!r:.40}")
        async with self._turn:
            version = await self._loaded(name, None if label is None else str(label))
            number = await self._leave_word({"load": name, VERSION: version})
        await self._wait_for_siblings(number)

    async def unload(self, name: str) -> None:
        """See `ModelControl.unload`."""
        if name not in self._keepers:
            raise _unknown(name, self._keepers)
        async with self._turn:
            await self._keepers[name].unload()
            number = await self._leave_word({"unload": name})
        await self._wait_for_siblings(number)

    async def follow(self) -> None:
        """Do what siblings leave word of."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.catch_up()

    async def catch_up(self) -> frozenset[str]:
        """Do what was left word of since the last look, the last word about each model; which models those are."""
        async with self._turn:
            numbers = [number for number in _numbers(self._folder) if number > self._seen]
            if not numbers:
                return frozenset()
            words = [json.loads(_word_path(self._folder, number).read_bytes()) for number in numbers]
            last: dict[str, JsonObject] = {word.get("load") or word["unload"]: word for word in words}
            failures = [reason for word in last.values() if (reason := await self._obeyed(word))]
            self._seen = numbers[-1]
            report = {"seen": self._seen, "failed": "; ".join(failures)}
            await asyncio.to_thread(write_atomic, self._folder / f"{self._own}.seen", json.dumps(report).encode())
            return frozenset(last)

    # --- here ---------------------------------------------------------------------------------------------------------

    async def _loaded(self, name: str, label: str | None) -> int:
        keeper = self._keepers.get(name) or self._keeper_of(name)
        try:
            version = await keeper.load(label)
        except (NotFoundError, RequestError, MemoryBudgetError) as error:
            raise type(error)(public_reason(error)) from error
        except CorelaneError as error:
            kind = NotReadyError if error.transient else RequestError
            raise kind(
                f"{name} must be a model that can be loaded here, got one that cannot: {public_reason(error)}"
            ) from error
        self._keepers[name] = keeper
        return version

    async def _obeyed(self, word: JsonObject) -> str:
        """Why what a sibling did cannot be done here; nothing if it is."""
        try:
            if "load" in word:
                await self._loaded(word["load"], str(word[VERSION]))
            elif word["unload"] in self._keepers:
                await self._keepers[word["unload"]].unload()
        except CorelaneError as error:
            self._logger.inference.warning("model_not_changed", worker=self._own, word=word, reason=error.message)
            return error.message
        return ""

    # --- among siblings -----------------------------------------------------------------------------------------------

    async def _leave_word(self, word: JsonObject) -> int:
        """Tell siblings, and who is started later; the word's number."""
        number = max(_numbers(self._folder), default=0) + 1
        while not await asyncio.to_thread(write_new, _word_path(self._folder, number), json.dumps(word).encode()):
            number += 1
        return number

    async def _wait_for_siblings(self, number: int) -> None:
        """Until each has done what the word `number` says. Raises `NotReadyError` when one cannot, or not in time."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._timeout_s
        waiting = list(self._siblings)
        while waiting:
            reports = {name: _report_of(self._folder, name) for name in waiting}
            waiting = [name for name, report in reports.items() if report["seen"] < number and not self._is_gone(name)]
            failed = [report["failed"] for report in reports.values() if report["seen"] >= number and report["failed"]]
            if failed or (waiting and loop.time() > until_s):
                told = failed[0] if failed else f"no word of {', '.join(waiting)}"
                raise NotReadyError(f"every worker of the server must follow, got {told}; call again")
            if waiting:
                await asyncio.sleep(LOOK_S / 2)

    def _is_gone(self, sibling: str) -> bool:
        return (self._folder / f"{sibling}{_GONE}").exists()


def note_given_up(folder: Path, worker: str) -> None:
    """Have siblings wait for `worker` no more: it was given up, and is not started again."""
    folder.mkdir(exist_ok=True)
    (folder / f"{worker}{_GONE}").touch()


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal())


def _word_path(folder: Path, number: int) -> Path:
    return folder / f"{number}.json"


def _report_of(folder: Path, name: str) -> JsonObject:
    try:
        report: JsonObject = json.loads((folder / f"{name}.seen").read_bytes())
    except FileNotFoundError:  # it has just been started
        return {"seen": 0, "failed": ""}
    return report


def _unknown(name: str, known: Mapping[str, Keeper]) -> NotFoundError:
    return NotFoundError(f"the model must be one of {', '.join(sorted(known))}, got {name[:80]!r}")
