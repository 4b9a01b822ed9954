"""`python -m corelane` is the `corelane` command.

A Ctrl-C while the command still loads leaves at once and in silence: nothing is there yet to tell it or tidy up.
"""

import os
import signal

_LOADS = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else whoever started us has it ignored
if _LOADS:
    signal.signal(signal.SIGINT, lambda *_: os._exit(75))

from corelane.cli import main  # noqa: E402 (only now is a Ctrl-C expected)

if _LOADS:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if __name__ == "__main__":
    main()
