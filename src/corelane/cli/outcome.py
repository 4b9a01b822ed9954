"""What every command does with its outcome: print it, turn errors into one line and an exit code, leave when asked.

Exit codes: 0 done, 1 our fault, 2 the user's mistake, 71 no memory left, 75 stopped in a way that the same command can
resume. With `--json` a command prints one JSON object on standard output and nothing else there, an error included.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import typer

from corelane.core.errors import CorelaneError
from corelane.machine.exit_codes import EXIT_RESUMABLE, exit_code
from corelane.machine.stop_signals import heard_signals

STOPPED = "corelane: stopped before the end; run the same command again"


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Turn an error of ours into one line (or one JSON object) and its exit code."""
    try:
        with _raising_when_interrupted():
            yield
    except CorelaneError as error:
        if as_json:
            typer.echo(json.dumps({"error": error.message, "code": error.code}))
        else:
            typer.echo(f"corelane: {error.message}", err=True)
        raise typer.Exit(exit_code(error)) from error
    except KeyboardInterrupt as error:
        typer.echo(STOPPED, err=True)
        raise typer.Exit(EXIT_RESUMABLE) from error
    except BrokenPipeError:
        # The reader of our output went away (`corelane ... | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_result(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], str]) -> None:
    """Print `result` as one JSON object, or as the text that `show` makes of it."""
    typer.echo(json.dumps(result, allow_nan=False) if as_json else show(result))


def facts_text(result: Mapping[str, Any]) -> str:
    """Flat facts as aligned lines; nested ones are indented under their name."""
    lines: list[str] = []
    width = max((len(key) for key in result), default=0)
    for key, value in result.items():
        if isinstance(value, Mapping):
            lines.append(key)
            lines.extend("  " + line for line in facts_text(value).splitlines())
        else:
            shown = _number(value) if isinstance(value, float) else value
            lines.append(f"{key:<{width}}  {shown}")
    return "\n".join(lines)


@contextmanager
def leaving_when_asked(words: bytes = b"") -> Iterator[None]:
    """Leave at once, with `words`, on a request to stop wherever the trainer does not handle it itself.

    Everything on disk is written whole or not at all, so leaving is safe. Raising out of the handler is not: a library
    that is just being imported may catch the exception and go on half imported.
    """

    def leave(*_: object) -> None:
        with suppress(OSError):  # a terminal that is gone
            os.write(2, words)
        os._exit(EXIT_RESUMABLE)

    previous = {number: signal.signal(number, leave) for number in heard_signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _raising_when_interrupted() -> Iterator[None]:
    """Let a Ctrl-C raise, so that what a command has begun is tidied up; one that is ignored stays so."""
    previous = signal.getsignal(signal.SIGINT)
    if previous != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
