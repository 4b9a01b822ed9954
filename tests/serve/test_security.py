"""TLS and tokens: who may do what, over HTTP and gRPC, and what is said to who may not."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest

from corelane.client.clients import Client
from corelane.core.clock import ManualClock, SystemClock
from corelane.core.errors import ConfigError, ForbiddenError, UnauthorizedError
from corelane.serve.config import ServeConfig
from corelane.serve.messages import MESSAGES, SERVICE
from corelane.serve.tokens import LOOK_S, SCOPES, TokenFile, new_token, read_tokens, revoke_token
from corelane.web.tls import Tls
from tests.serve.live import LiveServer, serving, tensor
from tests.serve.packages import numeric_package

INFER = "/v2/models/m/infer"
BODY = {"inputs": [tensor("features", [1, 2, 3, 4], [1, 4])]}
ROUTES = {
    "infer": [("POST", INFER), ("POST", "/v1/models/m:predict")],
    "read": [("GET", path) for path in ("/v2", "/v2/models/m", "/v2/models/m/config", "/metrics", "/openapi.json")],
    "manage": [("POST", "/v2/repository/models/m/load")],
}
OPEN = ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate for loopback that vouches for itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return Tls(folder / "cert.pem", folder / "key.pem")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file of tokens, one for each scope, and what they are."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.json"
    return path, {scope: new_token(path, f"{scope}-er", [scope], SystemClock()) for scope in SCOPES}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, pair: Tls, tokens: tuple[Path, dict[str, str]]
) -> Iterator[LiveServer]:
    package = numeric_package(tmp_path_factory.mktemp("packages"))
    settings = {"tls_certificate": pair.certificate, "tls_key": pair.key, "tokens": tokens[0], "grpc_port": 0}
    with serving(package, **settings) as live:
        yield live


def ask(server: LiveServer, pair: Tls, method: str, path: str, token: str | None = None, body: Any = None) -> Any:
    context = ssl.create_default_context(cafile=str(pair.certificate))
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
    try:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body=json.dumps(BODY if body is None else body), headers=headers)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


def test_each_route_wants_its_scope(server: LiveServer, pair: Tls, tokens: tuple[Path, dict[str, str]]) -> None:
    """401 without a token or with an unknown one, 403 with one of another scope; health is for anybody."""
    assert server.url.startswith("https://")
    for scope, routes in ROUTES.items():
        for method, path in routes:
            status, headers, body = ask(server, pair, method, path)
            assert (status, headers["www-authenticate"]) == (401, "Bearer"), path
            assert ask(server, pair, method, path, "crl_unknown")[0] == 401
            for other, token in tokens[1].items():
                status, _, body = ask(server, pair, method, path, token)
                assert (status == 403) == (other != scope) or scope == "manage", (path, other, body)
                assert token.encode() not in body
    assert ask(server, pair, "POST", INFER, tokens[1]["infer"])[0] == 200
    for path in OPEN:
        assert ask(server, pair, "GET", path)[0] == 200


def test_odd_headers_are_refused(server: LiveServer, pair: Tls, tokens: tuple[Path, dict[str, str]]) -> None:
    """Another scheme, nothing after it, thousands of characters, bytes that are no text."""
    token = tokens[1]["infer"]
    context = ssl.create_default_context(cafile=str(pair.certificate))
    for value in (
        f"Basic {token}",
        "Bearer",
        "Bearer ",
        f"Bearer {token}x",
        f"Bearer {'a' * 5000}",
        "Bearer \xff\xfe",
        "",
    ):
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
        connection.request("POST", INFER, body=json.dumps(BODY), headers={"Authorization": value.encode("latin-1")})
        assert connection.getresponse().status in (400, 401), value
        connection.close()


def test_grpc_wants_the_same(server: LiveServer, pair: Tls, tokens: tuple[Path, dict[str, str]]) -> None:
    """In the metadata; over TLS only."""
    credentials = grpc.ssl_channel_credentials(pair.certificate.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:

        def call(method_name: str, token: str | None, **fields: Any) -> Any:
            metadata = [] if token is None else [("authorization", f"Bearer {token}")]
            method = channel.unary_unary(
                f"/{SERVICE}/{method_name}",
                request_serializer=MESSAGES[f"{method_name}Request"].SerializeToString,
                response_deserializer=MESSAGES[f"{method_name}Response"].FromString,
            )
            return method(MESSAGES[f"{method_name}Request"](**fields), metadata=metadata, timeout=20)

        assert call("ServerLive", None).live
        for token, code in (
            (None, grpc.StatusCode.UNAUTHENTICATED),
            ("crl_unknown", grpc.StatusCode.UNAUTHENTICATED),
            (tokens[1]["infer"], grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.RpcError) as told:
                call("ModelMetadata", token, name="m")
            assert told.value.code() == code
        assert call("ModelMetadata", tokens[1]["read"], name="m").name == "m"
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=3)


def test_the_client_brings_its_token(tmp_path: Path) -> None:
    """And a token that is revoked, or added, counts within a second or two, without a restart."""
    path = tmp_path / "tokens.json"
    token = new_token(path, "shop", ["infer", "read"], SystemClock())
    rows = np.ones((1, 4))
    with serving(numeric_package(tmp_path), tokens=path) as server:
        with Client(server.url, token=token) as client:
            assert client.infer("m", {"features": rows})["label"].shape == (1,)
            with Client(server.url) as nobody, pytest.raises(UnauthorizedError):
                nobody.infer("m", {"features": rows})
            revoke_token(path, "shop", SystemClock())
            time.sleep(LOOK_S + 0.2)
            with pytest.raises(UnauthorizedError):
                client.infer("m", {"features": rows})
        path.write_text("{broken")
        time.sleep(LOOK_S + 0.2)
        assert server.ask("GET", "/v2").status == 401
        assert server.ask("GET", "/v2/health/live").status == 200


def test_a_token_is_told_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    """The file can be read by its owner only; names are taken once; it ends when it was to."""
    path, clock = tmp_path / "tokens.json", ManualClock(1000.0)
    token = new_token(path, "a", ["read"], clock, lifetime_s=60)
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    known = TokenFile(path, clock)
    known.check(f"Bearer {token}", "read")
    with pytest.raises(ForbiddenError, match="must have the scope manage, it has read"):
        known.check(f"Bearer {token}", "manage")
    clock.sleep(61.0)
    with pytest.raises(UnauthorizedError, match="must not have expired"):
        known.check(f"Bearer {token}", "read")
    for name, scopes, words in (
        ("a", ["read"], "must be new"),
        ("../x", ["read"], "must have a name"),
        ("b", [], "scopes"),
        ("b", ["root"], "scopes"),
    ):
        with pytest.raises(ConfigError, match=words):
            new_token(path, name, scopes, clock)
    assert [one.name for one in read_tokens(path).tokens] == ["a"]
    with pytest.raises(ConfigError, match="must be one of"):
        revoke_token(path, "nobody", clock)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}x", '{"tokens": [{"name": "a"}]}', '{"version": 2}', "[" * 10_000, '{"tokens": [], "more": 1}'],
)
def test_a_file_that_is_none_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    """With its name; and so is one that is missing."""
    path = tmp_path / "tokens.json"
    with pytest.raises(ConfigError, match=r"must be readable, got .*tokens\.json"):
        read_tokens(path)
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"tokens\.json must be a file of tokens"):
        read_tokens(path)


def test_tls_files_are_checked_before_anything_starts(tmp_path: Path, pair: Tls) -> None:
    """Missing, no PEM, a key of another certificate: one line."""
    (tmp_path / "junk.pem").write_text("junk")
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(other)], check=True, capture_output=True)
    pair.check()
    for tls, words in (
        (Tls(tmp_path / "no.pem", pair.key), "got no file"),
        (Tls(tmp_path / "junk.pem", pair.key), "must be a PEM certificate"),
        (Tls(pair.certificate, other), "its key"),
    ):
        with pytest.raises(ConfigError, match=words):
            tls.check()


def test_off_loopback_needs_both(pair: Tls) -> None:
    """Or a word that it may be without."""
    both = {"tls_certificate": str(pair.certificate), "tls_key": str(pair.key), "tokens": "tokens.json"}
    assert ServeConfig(host="0.0.0.0", **both).tls == pair
    for missing in both:
        left = {key: value for key, value in both.items() if key != missing}
        with pytest.raises(ValueError, match="must be"):
            ServeConfig(host="0.0.0.0", **left)
    assert ServeConfig(host="0.0.0.0", insecure=True).insecure


def test_management_off_loopback_speaks_tls_and_asks_for_tokens(
    tmp_path: Path, pair: Tls, tokens: tuple[Path, dict[str, str]]
) -> None:
    """With the server's own certificate; on loopback it speaks plain HTTP, which certificates do not name."""
    settings = {"tls_certificate": pair.certificate, "tls_key": pair.key, "tokens": tokens[0], "management_port": 0}
    package = numeric_package(tmp_path)
    with serving(package, management_host="0.0.0.0", **settings) as server:
        url = urlsplit(server.management_url or "")
        assert (url.scheme, url.hostname) == ("https", "0.0.0.0")
        at = replace(server, url=f"https://127.0.0.1:{url.port}")
        assert ask(at, pair, "GET", "/workers")[0] == 401
        assert ask(at, pair, "GET", "/workers", tokens[1]["read"])[0] == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            server.manage("GET", "/v2/health/live")
    with serving(package, **settings) as server:
        assert (server.management_url or "").startswith("http://127.0.0.1:")
        assert server.manage("GET", "/v2/health/live").status == 200


def test_tokens_by_the_command(tmp_path: Path) -> None:
    """New, list and revoke."""

    def run(*arguments: str, code: int = 0) -> Any:
        argv = [sys.executable, "-m", "corelane", "token", *arguments, "--json"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    made = run("new", "shop", "--scope", "infer", "--scope", "read", "--days", "90")
    assert made["token"].startswith("crl_")
    listed = run("list")["tokens"]
    assert [(one["name"], one["scopes"]) for one in listed] == [("shop", ["infer", "read"])]
    assert "must be new" in run("new", "shop", "--scope", "infer", code=2)["error"]
    assert run("revoke", "shop")["revoked"] == "shop"
    assert run("list")["tokens"] == []


UNLOAD = "/v2/repository/models/m/unload"
SPELLINGS = [
    UNLOAD,
    f"/{UNLOAD}",
    UNLOAD.replace("/repository", "//repository"),
    UNLOAD.replace("/v2", "/v2/."),
    UNLOAD.replace("/v2", "/v2/models/.."),
    f"{UNLOAD}/",
    f"{UNLOAD}?x=1",
    f"{UNLOAD};x",
    UNLOAD.replace("/m/", "/%6d/"),
    UNLOAD.replace("/models", "%2Fmodels"),
    UNLOAD.replace("unload", "%75nload"),
    UNLOAD.replace("/v2", "/V2"),
    f"http://localhost{UNLOAD}",
]
TRICKS = [
    {},
    {"Authorization": "Bearer wrong"},
    {"Authorization": "Basic bTpt"},
    {"Host": "localhost", "X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
    {"Origin": "http://127.0.0.1"},
    {"X-HTTP-Method-Override": "POST", "X-Original-URL": "/v2/health/live"},
]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: next(iter(trick), "none"))
def test_no_spelling_of_a_path_does_without_its_token(tmp_path: Path, trick: dict[str, str]) -> None:
    """A model cannot be unloaded by doubled slashes, dots, percent signs, another host or whatever proxies believe."""
    tokens = tmp_path / "tokens.json"
    infer = new_token(tokens, "infer-er", ["infer"], SystemClock())
    with serving(numeric_package(tmp_path), tokens=tokens, model_control="explicit") as server:
        for path in SPELLINGS:
            for method in ("POST", "GET"):
                reply = server.ask(method, path, {}, headers=trick)
                assert reply.status in {401, 404, 405}, (method, path)
        assert server.ask("POST", UNLOAD, {}, headers={"Authorization": f"Bearer {infer}"}).status == 403
        good = server.ask("POST", "/v2/models/m/infer", BODY, headers={"Authorization": f"Bearer {infer}"})
        assert good.status == 200


@pytest.mark.parametrize("lifetime_s", [float("nan"), float("inf"), 1e15])
def test_a_token_ends_on_a_day_that_can_be_told(tmp_path: Path, lifetime_s: float) -> None:
    """A lifetime that is none is refused, and not taken for one without an end."""
    with pytest.raises(ConfigError, match="lifetime of a token must be"):
        new_token(tmp_path / "tokens.json", "a", ["infer"], SystemClock(), lifetime_s=lifetime_s)
    assert not (tmp_path / "tokens.json").exists()
