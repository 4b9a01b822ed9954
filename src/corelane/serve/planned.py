"""A served package and its plan: what the plan says at the start, and a plan that is found while the server runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from corelane.core.config import Section
from corelane.core.errors import CorelaneError
from corelane.machine.plan import key_of
from corelane.model.candidate import Candidate
from corelane.observe.log import SystemLogger
from corelane.serve.server import ModelServer
from corelane.store.plan_cache import read_plan

LOOK_S = 2.0  # between two looks for a plan that may come within minutes


class Planned(Section):
    """Where the plan of a package lies or will lie (none: it is run safely), and the threads that its runs may have."""

    file: Path | None = None
    threads: int = 1

    def candidate(self) -> Candidate | None:
        """What the plan says; None where there is none yet, or its file is none."""
        if self.file is None:
            return None
        try:
            chosen = read_plan(self.file, Candidate).chosen
        except (CorelaneError, OSError):
            return None
        threads = min(chosen.threads, self.threads)
        streams = 1 if chosen.runtime == "torch" else max(1, self.threads // threads)
        return replace(chosen, threads=threads, streams=streams)


class PlanPlace(Section):
    """Where plans of packages lie (none: they are run safely), also of those that come while the server runs.

    `facts` are what a plan's key is made of beside the package's digest, `threads` those that its runs may have.
    """

    folder: Path | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    threads: int = 1

    def of(self, digest: str) -> Planned:
        """Where the plan of the package with this digest lies or will lie."""
        if self.folder is None:
            return Planned()
        key = key_of({"package": digest, **self.facts})
        return Planned(file=self.folder / f"{key}.json", threads=self.threads)


async def take_up(server: ModelServer, plan: Planned, logger: SystemLogger) -> bool:
    """Have `server` run as its plan says, if there is one; whether there is.

    A plan that cannot be run here costs a warning: the server goes on as it did.
    """
    candidate = plan.candidate()
    if candidate is None:
        server.widen(plan.threads)
        return False
    try:
        if candidate != server.candidate:
            await server.adopt(candidate)
    except CorelaneError as error:
        logger.inference.warning("plan_not_used", model=server.model.name, plan=str(candidate), reason=error.message)
    else:
        logger.inference.info("plan_used", model=server.model.name, plan=str(candidate))
    return True


async def follow(server: ModelServer, plan: Planned, logger: SystemLogger) -> None:
    """Take the plan up as soon as there is one; without a file there will be none."""
    while plan.file is not None and not await take_up(server, plan, logger):
        await asyncio.sleep(LOOK_S)
