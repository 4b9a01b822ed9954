"""How far a command has come through rows whose number nobody knows before the end: a line on the terminal, redrawn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counted_rows(what: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A callable to be told how many rows are done. Drawn twice a second on standard error, where that is a terminal
    and `quiet` is not asked for; gone when the block ends.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms, and only where something is drawn
    from rich.progress import Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2.0) as progress:
        task = progress.add_task(what, total=None)

        def show(num_rows: int) -> None:
            rate = num_rows / max(progress.tasks[0].elapsed or 0.0, 1e-9)
            progress.update(task, description=f"{what}: {num_rows:,} rows, {rate:,.0f} a second")

        yield show
