"""The repository's calls over HTTP: what is served, loading and unloading. The source is Triton's
extension_model_repository.md.

The same routes stand on the main port and on the socket on which a worker answers the supervisor; `control` decides
whether they may change anything there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from corelane.core.errors import RequestError
from corelane.serve.control import ModelControl
from corelane.serve.extensions import repository_index
from corelane.serve.served import ServedModels
from corelane.web.exchange import Exchange, Observe
from corelane.web.later import Later, StatusAndBody
from corelane.web.route import Route

INDEX = "/v2/repository/index"
MODELS = "/v2/repository/models/"


class RepositoryRoutes:
    """The routes of the repository. `is_serving` says whether this server welcomes requests."""

    def __init__(
        self,
        models: ServedModels,
        control: ModelControl,
        *,
        is_serving: Callable[[], bool],
        observe: Observe,
    ) -> None:
        self._models = models
        self._control = control
        self._is_serving = is_serving
        self._observe = observe
        self._later = Later()

    def index(self) -> Route:
        """The route that lists what is served."""
        return Route("POST", INDEX, self._send_index, self._observe)

    def change(self, path: str) -> Route | None:
        """The route that loads or unloads the model that `path` names, whether there is one or not."""
        change = change_of(path)
        if change is None:
            return None
        name, action = change

        def handler(exchange: Exchange, body: bytes) -> None:
            parameters = asked(body).get("parameters") or {}
            if type(parameters) is not dict:
                raise RequestError(f"parameters must be an object, got {parameters!r:.80}")
            control = self._control
            work = control.load(name, parameters) if action == "load" else control.unload(name)
            self._later.wait(exchange, _done(work))

        return Route("POST", path, handler, self._observe, "manage")

    def _send_index(self, exchange: Exchange, body: bytes) -> None:
        is_ready_only = asked(body).get("ready", False)
        if type(is_ready_only) is not bool:
            raise RequestError('the body must be {}, {"ready": true} or empty')
        models = self._models.index(is_serving=self._is_serving())
        exchange.reply(orjson.dumps(repository_index(models, is_ready_only=is_ready_only)))


def change_of(path: str) -> tuple[str, str] | None:
    """Name and `load` or `unload`, where `path` is that of such a call."""
    name, sign, action = path.removeprefix(MODELS).partition("/")
    if not path.startswith(MODELS) or not sign or action not in ("load", "unload"):
        return None
    return name, action


def asked(body: bytes) -> dict[str, Any]:
    """The object that a call of the repository's extension may have as its body. Raises `RequestError`."""
    try:
        found = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body must be JSON in UTF-8, got {error}") from error
    if type(found) is not dict:
        raise RequestError("the body must be a JSON object or empty")
    return found


async def _done(work: Awaitable[None]) -> StatusAndBody:
    await work
    return 200, b"{}"
