"""What `--watch` shows: the curves of the training and the validation loss, in the terminal, while they grow.

A `Curve` keeps a bounded number of points, whatever the length of the run. `LiveProgress` draws them.
"""

from __future__ import annotations

import math

from rich.text import Text

from corelane.observe.terminal_chart import braille_chart

MAX_POINTS = 512  # more than a terminal has columns; kept by joining neighbours, so that memory and drawing are bounded
CHART_LINES = 8


class Curve:
    """Owns the points of one curve and nothing else: at most `MAX_POINTS`, each the mean of as many values."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self._per_point = 1
        self._pending: list[tuple[float, float]] = []

    def add(self, x: float, y: float) -> None:
        """Take one more value; x must not go back. One that is not finite (a step that was left out) has no place."""
        if not math.isfinite(y):
            return
        self._pending.append((x, y))
        if len(self._pending) == self._per_point:
            self.points.append(_mean(self._pending))
            self._pending.clear()
        if len(self.points) == MAX_POINTS:
            self.points = [_mean(self.points[at : at + 2]) for at in range(0, MAX_POINTS, 2)]
            self._per_point *= 2


class Curves:
    """The two curves of a run, as text."""

    def __init__(self) -> None:
        self.training = Curve()
        self.validation = Curve()

    def draw(self, *, width: int, last_step: int) -> Text:
        """Both, the validation loss only once there is one."""
        text = _chart("training loss", self.training, "cyan", width, last_step)
        if self.validation.points:
            text.append_text(_chart("\nvalidation loss", self.validation, "magenta", width, last_step))
        return text


class NoCurves(Curves):
    """Nothing is drawn: the bar alone."""

    def draw(self, *, width: int, last_step: int) -> Text:
        """Empty."""
        del width, last_step
        return Text()


def _chart(title: str, curve: Curve, colour: str, width: int, last_step: int) -> Text:
    lines = braille_chart(curve.points, width=width, height=CHART_LINES, last_x=last_step)
    return Text.assemble((f"{title}\n", "bold"), ("\n".join(lines), colour))


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return points[-1][0], sum(y for _, y in points) / len(points)
