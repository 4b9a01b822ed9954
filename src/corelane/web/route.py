"""Routes: exact paths to handlers. Finding one is a look-up, no pattern; routes come and go with what is served."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from corelane.core.errors import MethodNotAllowedError, NotFoundError
from corelane.web.exchange import Exchange, Observe

Scope: TypeAlias = Literal["infer", "read", "manage"]
Handler: TypeAlias = Callable[[Exchange, bytes], None]
"""Answers an exchange, at once or later. `CorelaneError`s it raises become the reply."""


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a decoded path, who answers, and who is told about the reply. Only POST routes get a body.

    `scope` is what a caller must be allowed to do where that is asked; None: anybody may.
    """

    method: str
    path: str
    handler: Handler
    observe: Observe
    scope: Scope | None = "read"


def _nothing_beyond(_path: str) -> Route | None:
    return None


class Routes:
    """Finds the route of a request. `explain` turns an unknown path into the message of its 404.

    `beyond` is asked for a path that is none of `routes`: for paths with a name that cannot be listed. For the event
    loop's thread only: what is changed within one turn is changed at once.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        explain: Callable[[str], str],
        beyond: Callable[[str], Route | None] = _nothing_beyond,
    ) -> None:
        self._by_path: dict[str, dict[str, Route]] = {}
        self._explain = explain
        self._beyond = beyond
        self.num_changes = 0
        """How often routes came or went: who has found one need not look again while it is the same."""
        self.add(routes)

    def add(self, routes: Iterable[Route]) -> None:
        """Answer by `routes` too; one of the same method and path is replaced."""
        self.num_changes += 1
        for route in routes:
            self._by_path.setdefault(route.path, {})[route.method] = route

    def drop(self, routes: Iterable[Route]) -> None:
        """Answer by `routes` no more. What has found one of them goes on with it."""
        self.num_changes += 1
        for route in routes:
            methods = self._by_path.get(route.path, {})
            methods.pop(route.method, None)
            if not methods:
                self._by_path.pop(route.path, None)

    def find(self, method: str, path: str) -> Route:
        """The route. Raises `NotFoundError` or `MethodNotAllowedError`."""
        methods = self._by_path.get(path)
        if methods is None:
            route = self._beyond(path)
            methods = {route.method: route} if route is not None else None
        if methods is None:
            raise NotFoundError(self._explain(path))
        route = methods.get(method)
        if route is None:
            allowed = ", ".join(sorted(methods))
            raise MethodNotAllowedError(f"the method must be {allowed} here, got {method[:20]!r}")
        return route

    def allowed(self, path: str) -> str:
        """The methods of `path` as the `Allow` header lists them."""
        route = self._beyond(path)
        return ", ".join(sorted(self._by_path.get(path, () if route is None else (route.method,))))
