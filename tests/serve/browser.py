"""A headless Chromium that tests drive over its own protocol (DevTools, on a pair of pipes): pages, keys, the mouse,
and what it complains of. It is no testing framework: what a person sees and does on one page, and nothing else.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = "chromium-headless-shell"
ANSWER_S = 30.0  # until the browser must have answered; it starts in less than one
ARGUMENTS = (
    "--no-sandbox",  # of a root user it asks that, and loads only what the tests serve
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)
KEYS = {"ArrowDown": 40, "Enter": 13, "Tab": 9}
CONTROL = 2  # as the protocol counts what is held down

# Resolves when it is true of the page; what never becomes true is an error that says so.
UNTIL = """
new Promise((resolve, reject) => {
  const end = performance.now() + 15000;
  const late = () => performance.now() > end;
  const look = () => (%s) ? resolve() : late() ? reject(new Error("not true within 15 s")) : setTimeout(look, 10);
  look();
})
"""


class BrowserError(Exception):
    """The browser refused a command, or a script of the page's failed."""


class Page:
    """One tab. `complaints` are what its console showed: errors, warnings, and what a policy of the page blocked."""

    def __init__(self, commands: int, answers: int) -> None:
        self.complaints: list[str] = []
        self._commands, self._answers = commands, answers
        self._numbers = itertools.count(1)
        self._read = b""
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command of the protocol."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._next()).get("id") != number:
            self._note(message)
        if "error" in message:
            raise BrowserError(f"{method}: {message['error']}")
        result: dict[str, Any] = message["result"]
        return result

    def open(self, url: str) -> None:
        """Load `url`, without what the page complained of before."""
        self.complaints.clear()
        failed = self.call("Page.navigate", url=url).get("errorText")
        if failed:
            raise BrowserError(f"{url}: {failed}")
        self.until("document.readyState === 'complete'")

    def value(self, script: str) -> Any:
        """What `script` gives in the page; a promise is awaited."""
        told = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise BrowserError(f"{script}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def until(self, condition: str) -> None:
        """Return when the script `condition` is true in the page."""
        self.value(UNTIL % condition)

    def text(self, selector: str) -> str:
        """What a person reads there: nothing of what is not shown."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def is_shown(self, selector: str) -> bool:
        """Whether it takes room in the page."""
        return bool(self.value(f"document.querySelector({json.dumps(selector)}).getClientRects().length"))

    def click(self, selector: str) -> None:
        """The mouse, in the middle of what `selector` finds; what lies above it would be clicked instead."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{found}.scrollIntoView({{block: 'center'}})")
        box = self.value(f"{found}.getBoundingClientRect().toJSON()")
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)

    def press(self, key: str, *, held: int = 0) -> None:
        """A key of `KEYS`, where the focus is."""
        names = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": held}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", **names)
        self.call("Input.dispatchKeyEvent", type="keyUp", **names)

    def write(self, selector: str, text: str) -> None:
        """In place of what the field has."""
        self.value(f"document.querySelector({json.dumps(selector)}).focus()")
        self.value(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int = 900) -> None:
        """The window's inner size, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self) -> bytes:
        """The whole page as a PNG file."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + ANSWER_S
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            read = os.read(self._answers, 1 << 16) if ready else b""
            if not read:
                raise BrowserError(f"{PROGRAM} must answer within {ANSWER_S:.0f} s, got nothing")
            self._read += read
        first, self._read = self._read.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        return message

    def _note(self, message: Mapping[str, Any]) -> None:
        told = message.get("params", {})
        match message.get("method"):
            case "Log.entryAdded" if told["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(f"{told['entry']['source']}: {told['entry']['text']}")
            case "Runtime.exceptionThrown":
                self.complaints.append(f"exception: {told['exceptionDetails']}")
            case "Runtime.consoleAPICalled" if told["type"] in {"error", "warning", "assert"}:
                self.complaints.append(f"console: {told['args']}")


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """A page of a new browser that keeps what it keeps in the folder `profile`."""
    (its_commands, commands), (answers, its_answers) = (_high_pipe() for _ in range(2))
    # It reads commands from the file descriptor 3 and answers on 4.
    start = f'exec {PROGRAM} "$@" 3<&{its_commands} 4>&{its_answers}'
    argv = ["bash", "-c", start, PROGRAM, *ARGUMENTS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(argv, pass_fds=(its_commands, its_answers), stderr=subprocess.DEVNULL)
    os.close(its_commands)
    os.close(its_answers)
    try:
        yield Page(commands, answers)
    finally:
        os.close(commands)  # by that it ends
        try:
            process.wait(timeout=ANSWER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(answers)


def _high_pipe() -> tuple[int, int]:
    """A pipe whose ends are neither 3 nor 4."""
    ends = os.pipe()
    above = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return above[0], above[1]
