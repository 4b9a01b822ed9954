"""`python -m corelane` is the `corelane` command.

A Ctrl-C while the command still loads leaves at once and in silence: nothing is there yet to tell it or tidy up.
A command that has something to tidy up takes it over (`cli/outcome.py`).
"""

import os
import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us has it ignored
    signal.signal(signal.SIGINT, lambda *_: os._exit(75))

from corelane.serve import worker_main


def main() -> None:
    """The `corelane` command; a worker of a server goes past the command line and its library."""
    if sys.argv[1:2] == [worker_main.COMMAND]:
        sys.exit(worker_main.main(sys.argv[2:]))
    from corelane.cli import main as command  # noqa: PLC0415 - which a worker does without

    command()


if __name__ == "__main__":
    main()
