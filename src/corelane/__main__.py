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

if __name__ == "__main__":
    if sys.argv[1:2] == [worker_main.COMMAND]:
        sys.exit(worker_main.main(sys.argv[2:]))
    from corelane.cli import main

    main()
