"""Which server the kit asks: one that is named on the command line, or a server of our own with two small packages.

`python -m pytest tests/conformance/oip --oip-url http://host:port --oip-model NAME [--oip-grpc host:port]`; see
docs/conformance.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.capabilities import asks_another_server
from tests.conformance.oip.peer import Peer
from tests.serve.live import LiveServer, serving
from tests.serve.packages import mixed_package, numeric_package

OWN = ("m", "mixed")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("oip", "the server of the Open Inference Protocol that is asked")
    group.addoption("--oip-url", help="its URL, such as http://127.0.0.1:8000; without it our own server is started")
    group.addoption("--oip-model", help="the model that is asked; needed with --oip-url")
    group.addoption("--oip-grpc", help="host:port of its gRPC form; without it that is not asked")
    group.addoption("--oip-request", help="a file with a legal request in JSON, where the metadata cannot tell one")


def _option(config: pytest.Config, name: str) -> Any:
    return config.getoption(name, default=None)  # not registered when the kit is run with all other tests


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "peer" not in metafunc.fixturenames:
        return
    models = OWN
    if _option(metafunc.config, "oip_url") is not None:
        asks_another_server()
        models = (_option(metafunc.config, "oip_model"),)
        if models[0] is None:
            raise pytest.UsageError("--oip-url must come with --oip-model, got none; name a model that is served")
    metafunc.parametrize("peer", models, indirect=True, scope="package")


@pytest.fixture(scope="package")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Our own server, of a model of numbers and one that takes texts too."""
    home = tmp_path_factory.mktemp("packages")
    with serving(numeric_package(home), mixed_package(home), grpc_port=0) as live:
        yield live


@pytest.fixture(scope="package")
def peer(request: pytest.FixtureRequest) -> Peer:
    """The server that is asked, and one of its models."""
    url = _option(request.config, "oip_url")
    if url is None:
        live: LiveServer = request.getfixturevalue("own_server")
        return Peer(live.url, request.param, f"127.0.0.1:{live.grpc_port}")
    given = _option(request.config, "oip_request")
    grpc = _option(request.config, "oip_grpc")
    return Peer(url.rstrip("/"), request.param, grpc, None if given is None else Path(given))
