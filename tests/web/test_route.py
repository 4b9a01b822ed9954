"""Routes come and go while requests are served, and paths with names that cannot be listed are found too."""

from __future__ import annotations

import pytest

from corelane.core.errors import MethodNotAllowedError, NotFoundError
from corelane.web.exchange import Exchange
from corelane.web.route import Route, Routes


def answer(exchange: Exchange, body: bytes) -> None:
    raise AssertionError("nobody asks")


def route(method: str, path: str) -> Route:
    return Route(method, path, answer, lambda status, duration_s: None)


def test_routes_come_and_go() -> None:
    """One that is dropped is not found; another method of its path stays, and one of the same replaces it."""
    get, post, other = route("GET", "/a"), route("POST", "/a"), route("GET", "/b")
    routes = Routes([get, post, other], lambda path: f"nothing at {path}")
    routes.drop([get, other])
    assert routes.find("POST", "/a") is post
    assert routes.allowed("/a") == "POST"
    with pytest.raises(MethodNotAllowedError):
        routes.find("GET", "/a")
    with pytest.raises(NotFoundError, match="nothing at /b"):
        routes.find("GET", "/b")
    again = route("POST", "/a")
    routes.add([again])
    assert routes.find("POST", "/a") is again
    routes.drop([other])


def test_what_lies_beyond_is_asked_last() -> None:
    """A path that is no route's is offered to who knows its pattern; its method counts."""
    beyond = route("POST", "/models/x/load")
    routes = Routes(
        [route("GET", "/a")], lambda path: f"nothing at {path}", lambda path: beyond if path == beyond.path else None
    )
    assert routes.find("POST", beyond.path) is beyond
    assert routes.allowed(beyond.path) == "POST"
    with pytest.raises(MethodNotAllowedError, match="must be POST here"):
        routes.find("GET", beyond.path)
    with pytest.raises(NotFoundError):
        routes.find("POST", "/models/x")
    assert routes.allowed("/a") == "GET"
