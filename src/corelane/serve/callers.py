"""Who may call management, beside what tokens say: no page of another site, and nobody who tries tokens.

A browser on this machine can be made to send requests to a port of loopback: by a page of another site, or by a name
that the site's owner points to 127.0.0.1. The headers Origin and Host tell of both (OWASP: Cross-Site Request Forgery
Prevention, DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from corelane.core.clock import Clock
from corelane.core.errors import ForbiddenError, OverloadedError, UnauthorizedError
from corelane.web.exchange import RequestHeaders
from corelane.web.http import Guard
from corelane.web.route import Scope

WRONG_TOKENS = 20
WRONG_WITHIN_S = 60.0
"""How many wrong tokens are answered 401 in so many seconds; more get 429."""


def admission(host: str, *, has_tokens: bool) -> Callable[[RequestHeaders], None]:
    """What raises `ForbiddenError` for the headers of a request that was made by a page of another site.

    Without tokens the header Host must be an address, localhost or `host`. With them any will do: a name that is
    pointed here brings no token.
    """
    names = {"localhost", host.lower()}

    def admit(headers: RequestHeaders) -> None:
        asked = headers.get("host", "localhost").lower()
        if not has_tokens and not _is_address(name := _name_of(asked)) and name not in names:
            raise ForbiddenError(
                f"the header Host must be an address, localhost or serve.management_host, got {asked[:80]!r}; "
                "use one of them, or give the server tokens"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != asked:
            raise ForbiddenError(f"the header Origin must be of this server where there is one, got {origin[:80]!r}")

    return admit


class PatientGuard:
    """Asks `guard`, and answers only so many wrong tokens as such. For one thread.

    A right token is let in at any time: who tries others cannot shut its owner out.
    """

    def __init__(self, guard: Guard, clock: Clock) -> None:
        self._guard = guard
        self._clock = clock
        self._failed_s: deque[float] = deque(maxlen=WRONG_TOKENS)

    def check(self, authorization: str | None, scope: Scope) -> None:
        """See `Guard.check`. Raises `OverloadedError` too."""
        try:
            self._guard.check(authorization, scope)
        except UnauthorizedError:
            if authorization is not None:
                self._count()
            raise

    def _count(self) -> None:
        now_s = self._clock.monotonic()
        if len(self._failed_s) == WRONG_TOKENS and (left_s := self._failed_s[0] + WRONG_WITHIN_S - now_s) > 0:
            raise OverloadedError(
                f"at most {WRONG_TOKENS} wrong tokens are looked at within {WRONG_WITHIN_S:g} s; send the right one",
                retry_after_s=left_s,
            )
        self._failed_s.append(now_s)


def _name_of(authority: str) -> str:
    """`authority` without its port; nothing where it is none."""
    with suppress(ValueError):
        return urlsplit(f"//{authority}").hostname or ""
    return ""


def _is_address(name: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False
