"""`Keeper`: what one model is served from. It loads the first version, follows the alias, and refuses what is no good.

A version comes into service when it has been fetched and verified, has answered its golden rows and takes and answers
what the one before does. Whatever it fails with, the one before goes on, and the log and the model's readiness say why.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import CorelaneError, NotFoundError
from corelane.model.registry import Choice
from corelane.observe.log import SystemLogger
from corelane.serve.extensions import LOADING, UNAVAILABLE, Listed
from corelane.serve.origin import Origin, Release
from corelane.serve.served import ServedModels
from corelane.serve.server import ModelServer

MAX_WAIT_S = 300.0  # between two attempts at a version that failed for a reason that may pass
FIRST_WAIT_S = 5.0

_PUBLIC = frozenset({"golden_mismatch", "memory_budget", "config_invalid", "request_invalid"})
"""Codes of errors whose messages name no file."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What was refused, and when it is tried again (monotonic seconds; infinity: when the alias is set anew)."""

    choice: Choice
    again_s: float
    wait_s: float


class Keeper:
    """Owns which version of the model of `origin` is served, and nothing else. Belongs to one event loop."""

    def __init__(
        self, origin: Origin, models: ServedModels, logger: SystemLogger, *, clock: Clock | None = None
    ) -> None:
        self.name = origin.name
        self._origin = origin
        self._models = models
        self._logger = logger
        self._clock = clock or SystemClock()
        self._refusal: _Refusal | None = None
        self._release: Release | None = None
        self._trouble = ""
        self._lock = asyncio.Lock()  # one change at a time

    @property
    def is_moving(self) -> bool:
        """Whether another version may be chosen later."""
        return self._origin.is_moving

    @property
    def server(self) -> ModelServer | None:
        """What serves the model now."""
        return self._models.servers.get(self.name)

    async def start(self) -> None:
        """Serve the model for the first time: the version that is chosen, or else the best that stands in for it.

        Raises what the chosen one raised when none can be served.
        """
        choice = await _in_thread(self._origin.choose)
        try:
            await self._bring(choice.version)
        except CorelaneError as error:
            if not await self._stand_in(choice):
                raise
            self._refuse(choice, error)

    async def look(self) -> None:
        """Ask what should be served, and see to it; nothing is raised but cancellation."""
        try:
            choice = await _in_thread(self._origin.choose)
        except (CorelaneError, OSError) as error:
            self._tell_trouble(error)
            return
        self._trouble = ""
        async with self._lock:
            if self.server is not None and self.server.model.version == choice.version:
                self._refusal = None
                self._models.beside.pop(self.name, None)
            elif self._is_due(choice):
                await self._try(choice)

    async def follow(self, poll_s: float) -> None:
        """Look every `poll_s` seconds."""
        while True:
            await asyncio.sleep(poll_s)
            await self.look()

    async def load(self, label: str | None = None) -> int:
        """Serve what is chosen now, or the alias or version `label`; which version that is.

        Raises what it fails with.
        """
        choice = await _in_thread(lambda: self._origin.choose(label))
        async with self._lock:
            if self.server is None or self.server.model.version != choice.version:
                try:
                    await self._bring(choice.version)
                except CorelaneError as error:
                    self._refuse(choice, error)
                    raise
        return choice.version

    async def unload(self) -> None:
        """Serve the model no more, if it is served."""
        async with self._lock:
            if self.server is not None:
                await self._models.take_away(self.name, "it was unloaded")
                await self._let_go(None)

    # --- one version --------------------------------------------------------------------------------------------------

    async def _bring(self, version: int) -> None:
        """Load `version` and have it answer. Raises what it fails with; then nothing of it is held."""
        begin_s = self._clock.monotonic()
        if self.server is not None:
            self._models.beside[self.name] = Listed(self.name, version, LOADING, "it is being loaded")
        try:
            path, release = await _in_thread(lambda: self._origin.fetch(version))
            try:
                server, plan = await self._models.open(self.name, path, self._origin.plan_of, version)
            except BaseException:
                release()
                raise
        except BaseException:
            if self.server is not None:
                self._models.beside.pop(self.name, None)
            raise
        await self._models.put(server, plan)
        await self._let_go(release)
        self._refusal = None
        self._logger.inference.info(
            "model_switched", model=self.name, version=version, seconds=round(self._clock.monotonic() - begin_s, 3)
        )

    async def _let_go(self, release: Release | None) -> None:
        """Give back what the former version's files needed; `release` is for those of the one that serves now."""
        former, self._release = self._release, release
        if former is not None:
            await _in_thread(former)

    # --- refusing -----------------------------------------------------------------------------------------------------

    async def _try(self, choice: Choice) -> None:
        try:
            await self._bring(choice.version)
        except CorelaneError as error:
            self._refuse(choice, error)
        except Exception as error:  # noqa: BLE001 - whatever a version fails with, the one before goes on
            self._refuse(choice, error)

    async def _stand_in(self, choice: Choice) -> bool:
        """Serve the first that can be of what stands in for `choice`; whether one can."""
        for version in choice.stand_ins:
            try:
                await self._bring(version)
            except CorelaneError as error:
                self._warn(version, error)
            else:
                return True
        return False

    def _is_due(self, choice: Choice) -> bool:
        """Whether `choice` was not refused before, or may be tried again."""
        refusal = self._refusal
        return refusal is None or refusal.choice != choice or self._clock.monotonic() >= refusal.again_s

    def _refuse(self, choice: Choice, error: Exception) -> None:
        """Remember that `choice` is no good, and tell it. What may be good later is tried again, ever more rarely."""
        former = self._refusal if self._refusal is not None and self._refusal.choice == choice else None
        wait_s = FIRST_WAIT_S if former is None else min(2 * former.wait_s, MAX_WAIT_S)
        may_pass = isinstance(error, OSError) or (isinstance(error, CorelaneError) and error.transient)
        again_s = self._clock.monotonic() + wait_s if may_pass else float("inf")
        self._refusal = _Refusal(choice, again_s, wait_s)
        reason = f"it was refused: {public_reason(error)}"
        self._models.beside[self.name] = Listed(self.name, choice.version, UNAVAILABLE, reason)
        self._warn(choice.version, error)

    def _warn(self, version: int, error: Exception) -> None:
        detail = "" if isinstance(error, CorelaneError) else "".join(traceback.format_exception(error))
        self._logger.inference.warning(
            "model_refused",
            model=self.name,
            version=version,
            reason=str(error),
            kind=type(error).__name__,
            detail=detail,
        )

    def _tell_trouble(self, error: Exception) -> None:
        """A registry that does not answer is told of once, not at every look."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._logger.inference.warning("registry_unread", model=self.name, reason=self._trouble)


def public_reason(error: Exception) -> str:
    """Why a version is no good, for callers: no file of this machine is named, the log has those."""
    if isinstance(error, CorelaneError) and error.code in _PUBLIC:
        return error.message
    if isinstance(error, NotFoundError):
        return "the registry must hold the model, the alias and the version that are asked for, got no such one"
    return "its package cannot be loaded; the log says why"


async def _in_thread(work: Callable[[], ResultT]) -> ResultT:
    return await asyncio.get_running_loop().run_in_executor(None, work)
