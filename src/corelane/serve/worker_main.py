"""The entry of a worker process: `python -m corelane serve-worker --spec FILE`, which the supervisor calls.

It goes past the command line and its library, which would cost each worker time to start and memory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from corelane.core.errors import CorelaneError
from corelane.machine.exit_codes import EXIT_RESUMABLE, exit_code
from corelane.machine.leave_out import leave_out

COMMAND = "serve-worker"


def main(arguments: Sequence[str]) -> int:
    """Serve as one worker; `arguments` are those after the command. Returns the exit code; an error is one line."""
    leave_out("pandas", "rich")
    from corelane.serve.run import run_worker  # noqa: PLC0415 - after what is left out

    try:
        return run_worker(arguments)
    except CorelaneError as error:
        sys.stderr.write(f"corelane: {error.message}\n")
        return exit_code(error)
    except KeyboardInterrupt:
        return EXIT_RESUMABLE
