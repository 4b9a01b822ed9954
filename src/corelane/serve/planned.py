"""A served package and its plan: what the plan says at the start, and a plan that is found while the server runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
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
from corelane.store.durable import write_atomic
from corelane.store.plan_cache import read_plan

UNPLANNED = ".path"
"""The ending of a file that holds the path of a package without a plan; its name is that of the plan to be."""

LOOK_S = 2.0  # between two looks for a plan that may come within minutes


class Planned(Section):
    """Where the plan of a package lies or will lie (none: it is run safely), and the threads that its runs may have.

    `unplanned` is a folder where to tell that there is no plan yet, so that one is looked for.
    """

    file: Path | None = None
    threads: int = 1
    unplanned: Path | None = None

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

    def tell(self, package: Path) -> None:
        """Leave word that `package` has no plan. Where that folder is gone the server ends, and nobody looks."""
        if self.unplanned is not None and self.file is not None:
            with suppress(CorelaneError, OSError):
                write_atomic(self.unplanned / f"{self.file.stem}{UNPLANNED}", str(package).encode())


class PlanPlace(Section):
    """Where plans of packages lie (none: they are run safely), also of those that come while the server runs.

    `facts` are what a plan's key is made of beside the package's digest, `threads` and `unplanned` as in `Planned`.
    """

    folder: Path | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    threads: int = 1
    unplanned: Path | None = None

    def of(self, digest: str) -> Planned:
        """Where the plan of the package with this digest lies or will lie."""
        if self.folder is None:
            return Planned()
        key = key_of({"package": digest, **self.facts})
        return Planned(file=self.folder / f"{key}.json", threads=self.threads, unplanned=self.unplanned)


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
    """Take the plan up as soon as there is one; leave word while there is none. Without a file there will be none."""
    is_told = False
    while plan.file is not None and not await take_up(server, plan, logger):
        if not is_told:
            is_told = True
            await asyncio.to_thread(plan.tell, server.model.path)
        await asyncio.sleep(LOOK_S)
