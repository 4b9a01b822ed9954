"""Routes: exact paths to handlers. All names that may be served are known, so finding one is a look-up, no pattern."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from corelane.core.errors import MethodNotAllowedError, NotFoundError
from corelane.web.exchange import Exchange, Observe

Handler: TypeAlias = Callable[[Exchange, bytes], None]
"""Answers an exchange, at once or later. `CorelaneError`s it raises become the reply."""


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a decoded path, who answers, and who is told about the reply. Only POST routes get a body."""

    method: str
    path: str
    handler: Handler
    observe: Observe


class Routes:
    """Finds the route of a request. `explain` turns an unknown path into the message of its 404."""

    def __init__(self, routes: Iterable[Route], explain: Callable[[str], str]) -> None:
        self._by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._by_path.setdefault(route.path, {})[route.method] = route
        self._explain = explain

    def find(self, method: str, path: str) -> Route:
        """The route. Raises `NotFoundError` or `MethodNotAllowedError`."""
        methods = self._by_path.get(path)
        if methods is None:
            raise NotFoundError(self._explain(path))
        route = methods.get(method)
        if route is None:
            allowed = ", ".join(sorted(methods))
            raise MethodNotAllowedError(f"the method must be {allowed} here, got {method[:20]!r}")
        return route

    def allowed(self, path: str) -> str:
        """The methods of `path` as the `Allow` header lists them."""
        return ", ".join(sorted(self._by_path.get(path, ())))
