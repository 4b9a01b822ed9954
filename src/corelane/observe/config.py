"""The `observe` section of a configuration: how much is logged, in which form. `app` hands it to `SystemLogger`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from corelane.core.config import Section

LogLevel = Literal["debug", "info", "warning", "error"]


class ObserveConfig(Section):
    """What is written to the terminal and to the log files."""

    log_level: LogLevel = Field(default="info", description="The least important level that is still written.")
    log_format: Literal["auto", "json", "human"] = Field(
        default="auto",
        description=(
            "Form of the lines on the terminal: 'auto' is 'human' on a terminal and 'json' in a pipe. "
            "Files are always JSON."
        ),
    )
    metadata: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description=(
            "Where runs are indexed: sqlite:///file or postgresql://user@host/name (the password from PGPASSWORD or "
            "~/.pgpass); null: metadata.sqlite in the folder of the runs."
        ),
    )
