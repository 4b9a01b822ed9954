"""Servers that fail, stall, lie and lead astray: rows are whole and right, or the error says why there are none."""

from __future__ import annotations

import base64
import bz2
import datetime
import gzip
import hashlib
import ipaddress
import lzma
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from corelane.app import train
from corelane.core.clock import SystemClock
from corelane.core.errors import ConfigError, DataError, SourceReadError
from corelane.data.config import HTTPConfig
from corelane.data.sources.http import HTTPSource
from corelane.data.sources.http.address import is_public
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.shared import SharedTier
from tests.faults.http_server import Answer, Asked, Content, FaultServer, raw, reply, torn

ROWS = [f"w{index}" for index in range(20_000)]
CSV = ("a\n" + "\n".join(ROWS) + "\n").encode()


class InstantClock(SystemClock):
    """Waits between tries take no time, and are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server with the file under /rows.csv."""
    with FaultServer() as made:
        made.routes["/rows.csv"] = Content(CSV)
        yield made


def source(
    url: str, *, told: list[Any] | None = None, clock: Any = None, lookup: Any = None, **config: Any
) -> HTTPSource:
    cache = config.pop("cache", None)
    config = {"allow_http": True, "allow_private": ["127.0.0.1"], **config}
    heard = [] if told is None else told
    options = {} if lookup is None else {"lookup": lookup}
    return HTTPSource(
        HTTPConfig(url=url, **config),
        cache=cache,
        clock=clock or InstantClock(),
        tell=lambda event, fields: heard.append((event, fields)),
        **options,
    )


def rows_of(made: HTTPSource) -> list[Any]:
    return [row for batch in made.batches() for row in batch.rows.column("a").to_pylist()]


# --- failures that pass (C5, C6) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_failure_that_may_pass_is_tried_again(server: FaultServer, status: int) -> None:
    """C5: The rows come once the server recovers."""
    server.script = [reply(status=status)] * 3
    assert rows_of(source(server.url + "/rows.csv")) == ROWS


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 501])
def test_a_refusal_is_not_tried_again(server: FaultServer, status: int) -> None:
    """C5: One request, and an error with the status."""
    server.script = [reply(status=status)] * 9
    with pytest.raises(DataError, match=f"must answer 200, got {status}"):
        rows_of(source(server.url + "/rows.csv"))
    assert len(server.asked) == 1


def test_retry_after_is_honoured_within_bounds(server: FaultServer) -> None:
    """C5: Seconds and dates are waited for, at most five minutes; beyond the deadline it gives up at once."""
    clock = InstantClock()
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    date = later.strftime("%a, %d %b %Y %H:%M:%S GMT")
    server.script = [reply(status=503, Retry_After=value) for value in ("7", date, "99999", "rubbish")]
    assert rows_of(source(server.url + "/rows.csv", clock=clock)) == ROWS
    assert clock.waits_s[0] == 7.0
    assert 90.0 < clock.waits_s[1] <= 101.0
    assert clock.waits_s[2] == 300.0
    assert clock.waits_s[3] < 10.0
    server.script = [reply(status=503, Retry_After="60")]
    with pytest.raises(SourceReadError, match="got 503"):
        rows_of(source(server.url + "/rows.csv", total_timeout_s=30.0))


def test_retries_are_bounded(server: FaultServer) -> None:
    """C5: A server that stays broken is asked `max_retries` times again, and no more."""
    server.script = [reply(status=500)] * 99
    with pytest.raises(SourceReadError, match="given up after 3 tries"):
        rows_of(source(server.url + "/rows.csv", max_retries=2))
    assert len(server.asked) == 3


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CSV)), max_size=5))
def test_wherever_the_connection_breaks_the_bytes_are_those_served(server: FaultServer, cuts: list[int]) -> None:
    """C6: Resets at any offsets, resumed by range requests: no byte is lost, repeated or changed."""
    server.asked.clear()
    server.script = [torn(server.routes["/rows.csv"], cut) for cut in cuts]
    assert rows_of(source(server.url + "/rows.csv", max_retries=9)) == ROWS


def test_a_resumed_download_asks_for_the_rest_only(server: FaultServer) -> None:
    """C6: After a break the range begins where the file ends, on condition that the version is the same."""
    server.script = [torn(server.routes["/rows.csv"], 50_000)]
    assert rows_of(source(server.url + "/rows.csv")) == ROWS
    assert server.asked[1].headers["range"] == "bytes=50000-"
    assert server.asked[1].headers["if-range"] == '"1"'


def test_without_a_version_a_broken_download_begins_anew(server: FaultServer) -> None:
    """C6: Nothing is continued that could be of another content."""
    plain = reply(CSV)
    server.script = [torn(plain, 50_000), plain]
    told: list[Any] = []
    assert rows_of(source(server.url + "/rows.csv", told=told)) == ROWS
    assert "range" not in server.asked[1].headers
    assert "source_restarted" in [event for event, _ in told]


@pytest.mark.parametrize(
    "answer",
    [
        reply(CSV, length=len(CSV) + 10),
        raw(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na\nb\nc\r\n"),
        raw(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\na\nb\nc\r\n0\r\n\r\n"),
        raw(b"HTTP/1.1 200 x\r\nContent-Len"),
        raw(b"\x00\x01nothing like HTTP\r\n\r\n"),
        raw(b""),
    ],
)
def test_a_torn_answer_is_never_taken_for_the_end(server: FaultServer, answer: Answer) -> None:
    """C6: Too few bytes, a cut or broken chunk, half a head: retried, then an error; never a shorter table."""
    server.script = [answer] * 9
    with pytest.raises(SourceReadError):
        rows_of(source(server.url + "/rows.csv", max_retries=1))
    server.script = [answer]
    assert rows_of(source(server.url + "/rows.csv")) == ROWS


def test_an_end_that_cannot_be_told_from_a_break_is_refused(server: FaultServer) -> None:
    """C6: Without length, chunks or digest the answer is refused; with a configured digest it can be checked."""
    server.routes["/rows.csv"] = raw(b"HTTP/1.0 200 x\r\n\r\n" + CSV)
    with pytest.raises(DataError, match=r"must tell its length.*set data\.source\.sha256"):
        rows_of(source(server.url + "/rows.csv"))
    assert rows_of(source(server.url + "/rows.csv", sha256=hashlib.sha256(CSV).hexdigest())) == ROWS


def test_bytes_beyond_the_length_are_not_content(server: FaultServer) -> None:
    """C6: What follows the announced length is not part of the file."""
    server.routes["/rows.csv"] = reply(CSV + b"extra\n", length=len(CSV))
    assert rows_of(source(server.url + "/rows.csv")) == ROWS


@pytest.mark.parametrize("header", ["Repr-Digest", "Content-Digest", "Digest"])
def test_the_servers_digest_is_checked(server: FaultServer, header: str) -> None:
    """C6: A wrong digest is an altered answer: read anew, and refused when it stays wrong."""
    right, wrong = (base64.b64encode(hashlib.sha256(data).digest()).decode() for data in (CSV, b"x"))
    shape = "sha-256={}" if header == "Digest" else "sha-256=:{}:"
    named = header.replace("-", "_")
    server.script = [reply(CSV, **{named: shape.format(wrong)})]
    server.routes["/rows.csv"] = reply(CSV, **{named: shape.format(right)})
    assert rows_of(source(server.url + "/rows.csv")) == ROWS
    assert len(server.asked) == 2


def test_the_configured_digest_is_checked(server: FaultServer) -> None:
    """C6: Another content than the one that was meant is refused."""
    with pytest.raises(DataError, match="must have the digest of"):
        rows_of(source(server.url + "/rows.csv", sha256="0" * 64))


def stalling(seconds: float, first: bytes = b"") -> Answer:
    def answer(asked: Asked, connection: Any) -> None:
        connection.sendall(b"HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\n" + first)
        connection.settimeout(seconds)
        connection.recv(1)  # until the client goes away

    return answer


def test_a_stall_ends_at_the_idle_limit(server: FaultServer) -> None:
    """C6: A server that stops in the middle costs the idle limit and no more; the next try succeeds."""
    server.script = [stalling(20.0, b"a\n")]
    began = time.monotonic()
    assert rows_of(source(server.url + "/rows.csv", idle_timeout_s=1.0)) == ROWS
    assert time.monotonic() - began < 10.0


def test_the_total_time_is_bounded(server: FaultServer) -> None:
    """C6: However often a server starts and stalls, the deadline ends it."""
    server.script = [stalling(20.0)] * 99
    began = time.monotonic()
    with pytest.raises((DataError, SourceReadError)):
        rows_of(source(server.url + "/rows.csv", idle_timeout_s=0.3, total_timeout_s=1.0, max_retries=99))
    assert time.monotonic() - began < 10.0


class FastClock(InstantClock):
    """A clock on which every look takes a second."""

    def monotonic(self) -> float:
        self._now = getattr(self, "_now", 0.0) + 1.0
        return self._now


def test_a_trickle_is_broken_off(server: FaultServer) -> None:
    """C6: Below the minimum rate over ten seconds the answer is broken off, even though bytes keep coming."""

    def trickle(asked: Asked, connection: Any) -> None:
        connection.sendall(b"HTTP/1.1 200 x\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.002)

    server.script = [trickle] * 9
    with pytest.raises(SourceReadError, match="must send at least 1024 bytes a second"):
        rows_of(source(server.url + "/rows.csv", clock=FastClock(), max_retries=0))


# --- changes (C7) -----------------------------------------------------------------------------------------------------


def test_a_change_between_two_parts_begins_anew(server: FaultServer) -> None:
    """C7: The content that changed under a broken download is read from its beginning, and nothing is mixed."""
    server.script = [torn(server.routes["/rows.csv"], 50_000)]
    server.routes["/rows.csv"] = Content(b"a\nnew\n", etag='"2"')
    told: list[Any] = []
    assert rows_of(source(server.url + "/rows.csv", told=told)) == ["new"]
    assert "source_restarted" in [event for event, _ in told]


@pytest.mark.parametrize(
    "part",
    [
        reply(b"zzz", 206, Content_Range="bytes 0-2/3", ETag='"1"'),
        reply(CSV[50_000:], 206, Content_Range=f"bytes 50000-{len(CSV) - 1}/{len(CSV) + 5}", ETag='"1"'),
        reply(CSV[50_000:], 206, Content_Range=f"bytes 50000-{len(CSV) - 1}/{len(CSV)}", ETag='"2"'),
        reply(status=416),
        reply(status=412),
    ],
)
def test_a_part_that_does_not_fit_is_not_used(server: FaultServer, part: Answer) -> None:
    """C7: Another offset, length or version than asked for: the download begins anew."""
    server.script = [torn(server.routes["/rows.csv"], 50_000), part]
    assert rows_of(source(server.url + "/rows.csv")) == ROWS


def test_a_server_that_ceases_to_send_parts_begins_anew(server: FaultServer) -> None:
    """C6: the whole answer in place of a part, or a part that is packed: nothing is appended to what there is."""
    whole = reply(CSV, ETag='"1"')
    span = f"bytes 50000-{len(CSV) - 1}/{len(CSV)}"
    packed = reply(CSV[50_000:], 206, Content_Range=span, ETag='"1"', Content_Encoding="gzip")
    for answer in (whole, packed):
        server.script = [torn(server.routes["/rows.csv"], 50_000), answer]
        assert rows_of(source(server.url + "/rows.csv")) == ROWS


def test_a_part_beyond_the_length_begins_anew(server: FaultServer) -> None:
    """C6: more bytes than were announced are of something else."""
    longer = reply(CSV[50_000:] + b"extra\n", 206, Content_Range=f"bytes 50000-{len(CSV) - 1}/{len(CSV)}", ETag='"1"')
    server.script = [torn(server.routes["/rows.csv"], 50_000), longer]
    assert rows_of(source(server.url + "/rows.csv")) == ROWS


def test_content_that_never_stays_the_same_is_given_up(server: FaultServer) -> None:
    """C7: A server whose content changes at every try ends in an error, not in a loop."""
    server.script = [torn(Content(CSV, etag=f'"{index}"'), 50_000) for index in range(50)]
    with pytest.raises((DataError, SourceReadError), match=r"must not change while it is read|without progress"):
        rows_of(source(server.url + "/rows.csv", max_retries=50))


def test_what_has_not_changed_is_not_downloaded_again(server: FaultServer, tmp_path: Path) -> None:
    """C7: The next run asks on condition and reads its copy; a changed content is downloaded."""
    url = server.url + "/rows.csv"
    first = source(url, cache=DiskTier(tmp_path))
    before = first.fingerprint()
    assert rows_of(source(url, cache=DiskTier(tmp_path))) == ROWS
    assert server.asked[-1].headers["if-none-match"] == '"1"'
    server.routes["/rows.csv"] = Content(b"a\nnew\n", etag='"2"')
    changed = source(url, cache=DiskTier(tmp_path))
    assert rows_of(changed) == ["new"]
    assert changed.fingerprint() != before
    assert rows_of(first) == ROWS, "a source that is in use keeps its content"


def test_another_machine_takes_it_from_the_archive(server: FaultServer, tmp_path: Path) -> None:
    """With shared storage the second machine asks on condition too, and the server sends no content."""
    url = server.url + "/rows.csv"
    for name in ("one", "two"):
        archive = SharedTier((tmp_path / "shared").as_uri())
        assert rows_of(source(url, cache=DiskTier(tmp_path / name, archive=archive))) == ROWS
    assert server.asked[-1].headers["if-none-match"] == '"1"'
    assert len(server.asked) == 2
    (note,) = (tmp_path / "shared" / "notes").iterdir()
    for file in note.iterdir():
        file.write_bytes(b"broken")
    archive = SharedTier((tmp_path / "shared").as_uri())
    assert rows_of(source(url, cache=DiskTier(tmp_path / "three", archive=archive))) == ROWS
    assert "if-none-match" not in server.asked[-1].headers


def test_a_broken_copy_is_downloaded_again(server: FaultServer, tmp_path: Path) -> None:
    """C7: A flipped byte in the kept file is found, told, and costs a download."""
    url = server.url + "/rows.csv"
    rows_of(source(url, cache=DiskTier(tmp_path)))
    (kept,) = tmp_path.glob("downloads/*/rows.csv")
    kept.write_bytes(kept.read_bytes().replace(b"w7\n", b"w8\n"))
    told: list[Any] = []
    cache = DiskTier(tmp_path, tell=lambda event, fields: told.append((event, fields)))
    assert rows_of(source(url, cache=cache)) == ROWS
    assert "cache_entry_broken" in [event for event, _ in told]
    assert "if-none-match" not in server.asked[-1].headers


class Broken(nn.Linear):
    """A net that fails before its first checkpoint."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("a mistake of the user's")


def test_a_run_does_not_go_on_with_changed_content(server: FaultServer, tmp_path: Path) -> None:
    """C7: what a run was begun with is named in its directory; on other content it is not resumed."""
    lines = [f"{index},{'yes' if index % 3 else 'no'}" for index in range(200)]
    server.routes["/rows.csv"] = Content(("v,y\n" + "\n".join(lines)).encode())
    settings = {"allow_http": True, "allow_private": ["127.0.0.1"]}
    config = {
        "name": "a",
        "data": {"source": {"type": "http", "url": server.url + "/rows.csv", **settings}, "target": "y"},
        "machine": {"cache": str(tmp_path / "cache")},
        "train": {"epochs": 1},
    }
    with pytest.raises(ValueError, match="mistake"):
        train(config, model=Broken(1, 2), runs=tmp_path, quiet=True)
    server.routes["/rows.csv"] = Content(("v,y\n" + "\n".join(reversed(lines))).encode(), etag='"2"')
    with pytest.raises(ConfigError, match=r"data of .*a-001"):
        train(config, runs=tmp_path, resume=True, quiet=True)


@pytest.mark.parametrize("etag", ['"\u00e9"', '"a\tb"', '"\x80"', '"' + "x" * 5000 + '"', "no quotes", "*", ""])
def test_an_odd_version_is_sent_back_or_not_used(server: FaultServer, tmp_path: Path, etag: str) -> None:
    """C7: whatever a server calls its version, a broken download and the next run end with the rows."""
    server.routes["/rows.csv"] = Content(CSV, etag=etag)
    server.script = [torn(server.routes["/rows.csv"], 50_000)]
    for _ in range(2):
        assert rows_of(source(server.url + "/rows.csv", cache=DiskTier(tmp_path))) == ROWS


# --- where it may go (C8) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
        ),
        *(
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "ff02::1",
        ),
        *("2002:7f00:1::", "192.0.2.1", "240.0.0.1", "255.255.255.255"),
    ],
)
def test_addresses_inside_are_not_public(address: str) -> None:
    """C8: Loopback, private, link-local, shared, reserved and multicast, however they are wrapped into IPv6."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are(address: str) -> None:
    """C8: What everybody can reach may be reached."""
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]"])
def test_this_machine_is_refused_in_any_spelling(server: FaultServer, host: str) -> None:
    """C8: Numbers in any base, short forms and names: no request is sent."""
    with pytest.raises((DataError, SourceReadError)) as caught:
        rows_of(source(f"http://{host}:{server.port}/rows.csv", allow_private=[], max_retries=0))
    assert "public internet" in str(caught.value) or "must answer" in str(caught.value)
    assert not server.asked


def test_private_hosts_are_allowed_by_name(server: FaultServer) -> None:
    """C8: A source may name hosts that are meant."""
    url = f"http://localhost:{server.port}/rows.csv"
    assert rows_of(source(url, allow_private=["localhost"], lookup=lambda host, port: ["127.0.0.1"])) == ROWS


TARGETS = [
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/",
    "file:///etc/passwd",
    "gopher://x/",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_cannot_lead_inside(server: FaultServer, target: str, status: int) -> None:
    """C8: Every hop is checked as the first one was."""
    server.routes["/go"] = reply(status=status, Location=target)
    with pytest.raises(DataError, match=r"public internet|must begin with https"):
        rows_of(source(server.url + "/go"))


def test_redirects_end(server: FaultServer) -> None:
    """C8: Circles and long chains are errors; a short chain, relative links among it, is followed."""
    server.routes["/a"] = reply(status=302, Location="/b")
    server.routes["/b"] = reply(status=302, Location="/a")
    with pytest.raises(DataError, match="in a circle"):
        rows_of(source(server.url + "/a"))
    for index in range(9):
        server.routes[f"/{index}"] = reply(status=302, Location=str(index + 1))
    with pytest.raises(DataError, match="over 5 times"):
        rows_of(source(server.url + "/0"))
    server.routes["/b"] = reply(status=302, Location="rows.csv")
    assert rows_of(source(server.url + "/a", format="csv")) == ROWS


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(server: FaultServer) -> None:
    """C8: The address that was looked at is the one connected to: another answer the second time gains nothing."""
    answers = [["127.0.0.1"], ["169.254.169.254"]]

    def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    url = f"http://rebinding.example:{server.port}/rows.csv"
    assert rows_of(source(url, lookup=rebinding)) == ROWS
    assert len(answers) == 1
    with pytest.raises(DataError, match=r"rebinding\.example must be on the public internet, got the address 169"):
        rows_of(source(url, lookup=rebinding))


def test_one_bad_address_among_good_ones_is_enough(server: FaultServer) -> None:
    """C8: A name with a public and an inner address is refused whole."""
    with pytest.raises(DataError, match="public internet"):
        rows_of(source("http://x.example/", lookup=lambda host, port: ["8.8.8.8", "10.0.0.1"]))


def test_headers_go_to_their_own_origin_only(server: FaultServer) -> None:
    """C8: A token is not handed to the host that a redirect names."""
    with FaultServer() as other:
        other.routes["/rows.csv"] = Content(CSV)
        server.routes["/go.csv"] = reply(status=302, Location=other.url + "/rows.csv")
        assert rows_of(source(server.url + "/go.csv", headers={"Authorization": "Bearer geheim"})) == ROWS
        assert server.asked[0].headers["authorization"] == "Bearer geheim"
        assert "authorization" not in other.asked[0].headers


def test_a_login_in_a_url_goes_to_its_own_origin_only(server: FaultServer) -> None:
    """C8: user and password of the URL are not handed on, and those that a redirect brings along are not used."""
    with FaultServer() as other:
        other.routes["/rows.csv"] = Content(CSV)
        server.routes["/go.csv"] = reply(status=302, Location=f"http://mallory:x@127.0.0.1:{other.port}/rows.csv")
        assert rows_of(source(f"http://user:geheim@127.0.0.1:{server.port}/go.csv")) == ROWS
        assert server.asked[0].headers["authorization"] == "Basic " + base64.b64encode(b"user:geheim").decode()
        assert "authorization" not in other.asked[0].headers


def test_an_encrypted_answer_cannot_lead_to_a_plain_one(server: FaultServer, tmp_path: Path) -> None:
    """C8: from https no redirect goes back to http, even where plain http is allowed."""
    context, file = certificate(tmp_path)
    with FaultServer(context) as encrypted:
        encrypted.routes["/go"] = reply(status=302, Location=server.url + "/rows.csv")
        with pytest.raises(DataError, match="must not lead back to plain http"):
            rows_of(source(encrypted.url + "/go", ca_file=str(file)))
    assert not server.asked


def test_a_name_that_is_not_found_in_time_ends_in_time(server: FaultServer) -> None:
    """C8: looking for a host's address counts as connecting to it: a name server that is silent does not hang us."""
    asked = threading.Event()

    def silent(host: str, port: int) -> list[str]:
        asked.wait(20.0)
        return ["127.0.0.1"]

    began = time.monotonic()
    with pytest.raises(SourceReadError, match="no connection"):
        rows_of(source(server.url + "/rows.csv", lookup=silent, connect_timeout_s=0.2, max_retries=1))
    asked.set()
    assert time.monotonic() - began < 10.0


def test_plain_http_must_be_allowed(server: FaultServer) -> None:
    """C8: Unencrypted is a choice."""
    with pytest.raises(ConfigError, match=r"set data\.source\.allow_http"):
        rows_of(source(server.url + "/rows.csv", allow_http=False))


def test_secrets_are_not_told(server: FaultServer) -> None:
    """C8: Users, passwords, queries and headers stay out of messages and events."""
    told: list[Any] = []
    url = f"http://user:geheim@127.0.0.1:{server.port}/x?token=geheim"
    server.script = [reply(status=500)] * 9
    with pytest.raises(SourceReadError) as caught:
        rows_of(source(url, told=told, headers={"X-Key": "geheim"}, max_retries=2))
    assert told
    assert "geheim" not in f"{caught.value} {caught.value.detail} {told}"


# --- bombs (C9) -------------------------------------------------------------------------------------------------------


def test_a_packed_answer_is_unpacked_within_bounds(server: FaultServer) -> None:
    """C9: Gzip by name or by header is read; one that unfolds beyond the bounds is refused before it is read."""
    server.routes["/rows.csv"] = reply(gzip.compress(CSV), Content_Encoding="gzip")
    assert rows_of(source(server.url + "/rows.csv")) == ROWS
    server.routes["/rows.csv"] = reply(gzip.compress(b"a\n" + b"x" * (50 << 20)))
    with pytest.raises(DataError, match="must unpack to at most"):
        rows_of(source(server.url + "/rows.csv", max_bytes=1 << 20))
    server.routes["/rows.csv"] = reply(gzip.compress(b"\0" * (64 << 20), 9))
    with pytest.raises(DataError, match="must unpack to at most"):
        rows_of(source(server.url + "/rows.csv"))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
}


@pytest.mark.parametrize("ending", PACKERS)
def test_a_bomb_of_any_kind_is_refused(server: FaultServer, ending: str) -> None:
    """C9: by what it unfolds to, whatever it is packed with; packed twice, the inner layer is no table."""
    pack = PACKERS[ending]
    server.routes[f"/rows.csv.{ending}"] = reply(pack(CSV))
    assert rows_of(source(f"{server.url}/rows.csv.{ending}")) == ROWS
    server.routes[f"/rows.csv.{ending}"] = reply(pack(b"a\n" + b"1\n" * (4 << 20)))
    with pytest.raises(DataError, match="must unpack to at most"):
        rows_of(source(f"{server.url}/rows.csv.{ending}", max_bytes=1 << 20))
    server.routes[f"/rows.csv.{ending}"] = reply(pack(pack(CSV)))
    with pytest.raises(DataError, match=r"binary|UTF-8|cells"):
        rows_of(source(f"{server.url}/rows.csv.{ending}"))


def test_the_body_of_a_redirect_is_not_read(server: FaultServer) -> None:
    """C9: whatever is hung on a redirect, a bomb or a stream without end, is left where it is."""

    def endless(asked: Asked, connection: Any) -> None:
        head = "HTTP/1.1 302 x\r\nLocation: /rows.csv\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        for _ in range(1_000_000):
            connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    server.routes["/go"] = endless
    assert rows_of(source(server.url + "/go", format="csv")) == ROWS


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "deflate", "gzip,br,gzip"])
def test_other_and_nested_encodings_are_refused(server: FaultServer, encoding: str) -> None:
    """C9: One layer of one kind."""
    server.routes["/rows.csv"] = reply(CSV, Content_Encoding=encoding)
    with pytest.raises(DataError, match="gzipped once"):
        rows_of(source(server.url + "/rows.csv"))


def test_too_large_is_refused_by_length_and_by_content(server: FaultServer) -> None:
    """C9: Before the first byte where the length is told, at the bound where it is not."""
    with pytest.raises(DataError, match="must have at most 1000 bytes"):
        rows_of(source(server.url + "/rows.csv", max_bytes=1000))
    chunk = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n"
    server.routes["/rows.csv"] = raw(chunk + b"0\r\n\r\n")
    with pytest.raises(DataError, match="must have at most 1000 bytes"):
        rows_of(source(server.url + "/rows.csv", max_bytes=1000))


# --- certificates (C10) -----------------------------------------------------------------------------------------------


def certificate(folder: Path, host: str = "127.0.0.1", days: int = 2) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a self-signed certificate, and the file that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - datetime.timedelta(days=9))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, plain, serialization.NoEncryption()))
    (folder / "cert.pem").write_bytes(made.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "cert.pem"


@pytest.mark.parametrize(
    ("host", "days", "is_trusted", "words"),
    [
        ("127.0.0.1", 2, False, "self-signed"),
        ("127.0.0.1", -1, True, "expired"),
        ("127.0.0.2", 2, True, "mismatch|not valid for"),
    ],
)
def test_a_certificate_that_is_not_valid_is_refused(
    tmp_path: Path, host: str, days: int, is_trusted: bool, words: str
) -> None:
    """C10: Self-signed, expired, another name: refused at once, in words; accepted only by the switch that is told."""
    context, file = certificate(tmp_path, host, days)
    with FaultServer(context) as server:
        server.routes["/rows.csv"] = Content(CSV)
        trust = {"ca_file": str(file)} if is_trusted else {}
        with pytest.raises(DataError, match=f"certificate of .* must be valid, got: .*({words})"):
            rows_of(source(server.url + "/rows.csv", **trust))
        assert not server.asked
        told: list[Any] = []
        assert rows_of(source(server.url + "/rows.csv", insecure_tls=True, told=told)) == ROWS
        assert told[0][0] == "tls_not_verified"


def test_a_named_authority_is_trusted(tmp_path: Path) -> None:
    """C10: `ca_file` adds trust; a file that is none is told."""
    context, file = certificate(tmp_path)
    with FaultServer(context) as server:
        server.routes["/rows.csv"] = Content(CSV)
        assert rows_of(source(server.url + "/rows.csv", ca_file=str(file))) == ROWS
        with pytest.raises(ConfigError, match="PEM certificates"):
            rows_of(source(server.url + "/rows.csv", ca_file=str(tmp_path / "none")))


# --- pages ------------------------------------------------------------------------------------------------------------


def pages(server: FaultServer, kind: str) -> dict[str, Any]:
    """An API of three pages of two rows; gives the paging section that walks it."""

    def answer(asked: Asked, connection: Any) -> None:
        number = int(asked.path.rpartition("=")[2]) if "=" in asked.path else 0
        rows = ", ".join(f'{{"a": "{2 * number + index}"}}' for index in range(2))
        following = number + 1 if number < 2 else None
        link = f"{server.url}/api?p={following}" if following else None
        body = f'{{"data": {{"items": [{rows}]}}, "next": {_json(link)}, "cursor": {_json(following)}}}'.encode()
        headers = {"Link": f'<{link}>; rel="next"'} if link else {}
        reply(body, **headers)(asked, connection)

    server.routes["/api"] = answer
    walk = {"link": {"next_link": "next"}, "header": {"next_link": "header"}}
    walk["cursor"] = {"next_cursor": "cursor", "cursor_param": "p"}
    return {"records": "data.items", **walk[kind]}


def _json(value: Any) -> str:
    return "null" if value is None else f'"{value}"'


@pytest.mark.parametrize("kind", ["link", "header", "cursor"])
def test_all_pages_are_one_table(server: FaultServer, kind: str) -> None:
    """Next links in the page or the header, and cursors; a page that fails is asked for again, alone."""
    paging = pages(server, kind)
    server.script = [server.routes["/api"], reply(status=503)]
    assert rows_of(source(server.url + "/api", paging=paging)) == ["0", "1", "2", "3", "4", "5"]
    assert len(server.asked) == 4


def test_pages_that_do_not_end_or_fit_are_told(server: FaultServer) -> None:
    """Circles, too many pages, records that are no list, pages that are no JSON."""
    server.routes["/api"] = reply(b'{"data": [{"a": 1}], "next": "/api"}')
    with pytest.raises(DataError, match="must end, got a circle"):
        rows_of(source(server.url + "/api", paging={"records": "data", "next_link": "next"}))
    paging = pages(server, "link") | {"max_pages": 2}
    with pytest.raises(DataError, match="over 2 pages"):
        rows_of(source(server.url + "/api", paging=paging))
    with pytest.raises(DataError, match="must be a list of records, got dict"):
        rows_of(source(server.url + "/api", paging={"records": "data", "next_link": "next"}))
    server.routes["/api"] = reply(b"<html>")
    with pytest.raises(DataError, match="must be JSON"):
        rows_of(source(server.url + "/api", paging=paging))


def test_a_next_link_cannot_lead_inside(server: FaultServer) -> None:
    """C8: Links of pages are checked as redirects are, and get no headers of ours elsewhere."""
    server.routes["/api"] = reply(b'{"data": [], "next": "http://169.254.169.254/"}')
    with pytest.raises(DataError, match="public internet"):
        rows_of(source(server.url + "/api", paging={"records": "data", "next_link": "next"}))


# --- what must not be lost silently -----------------------------------------------------------------------------------


def test_a_part_of_unknown_end_is_not_the_whole(server: FaultServer) -> None:
    """C6: A part that names no total cannot shorten the file: the length of the whole answer still holds."""
    server.script = [
        torn(server.routes["/rows.csv"], 50_000),
        reply(CSV[50_000:50_010], 206, Content_Range="bytes 50000-50009/*", ETag='"1"'),
    ]
    assert rows_of(source(server.url + "/rows.csv")) == ROWS
    chunked = b'HTTP/1.1 200 x\r\nETag: "1"\r\nTransfer-Encoding: chunked\r\n\r\n8\r\na\nw0\nw1\n\r\n'
    part = reply(b"w2\n", 206, Content_Range="bytes 8-10/*", ETag='"1"')
    server.script = [raw(chunked), part]
    assert rows_of(source(server.url + "/rows.csv")) == ROWS


def test_the_digest_told_at_first_holds_for_a_resumed_file(server: FaultServer) -> None:
    """C6: A rest that is altered on the way is found by the digest that the first answer told."""
    told = base64.b64encode(hashlib.sha256(CSV).digest()).decode()
    whole = reply(CSV, ETag='"1"', Repr_Digest=f"sha-256=:{told}:")
    altered = CSV[50_000:].replace(b"w1", b"w2")
    span = f"bytes 50000-{len(CSV) - 1}/{len(CSV)}"
    server.script = [torn(whole, 50_000), reply(altered, 206, Content_Range=span, ETag='"1"')]
    server.routes["/rows.csv"] = whole
    assert rows_of(source(server.url + "/rows.csv")) == ROWS


def test_a_second_link_header_is_read(server: FaultServer) -> None:
    """The next link may stand behind another, in the same header or in one of its own."""
    body = b'[{"a": "0"}]'
    head = f"HTTP/1.1 200 x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    links = f'Link: </first>; rel="first"\r\nLink: <{server.url}/two>; rel="next"\r\n\r\n'
    server.routes["/one"] = raw((head + links).encode() + body)
    server.routes["/two"] = reply(b'[{"a": "1"}]')
    assert rows_of(source(server.url + "/one", paging={"next_link": "header"})) == ["0", "1"]


def test_a_key_with_a_dot_is_found(server: FaultServer) -> None:
    """OData names its next link `@odata.nextLink`: the dot belongs to the key."""
    server.routes["/one"] = reply(b'{"value": [{"a": "0"}], "@odata.nextLink": "/two"}')
    server.routes["/two"] = reply(b'{"value": [{"a": "1"}]}')
    paging = {"records": "value", "next_link": "@odata.nextLink"}
    assert rows_of(source(server.url + "/one", paging=paging)) == ["0", "1"]


@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 x\r\nX: ", b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1;x="]
)
def test_a_head_or_chunk_line_that_trickles_ends_in_time(server: FaultServer, begin: bytes) -> None:
    """C6: Bytes that keep coming without an end do not outlive the total time."""

    def trickle(asked: Asked, connection: Any) -> None:
        connection.sendall(begin)
        for _ in range(400):
            time.sleep(0.05)
            connection.sendall(b"x")

    server.script = [trickle] * 9
    began = time.monotonic()
    with pytest.raises((DataError, SourceReadError)):
        rows_of(source(server.url + "/rows.csv", idle_timeout_s=5.0, total_timeout_s=1.0))
    assert time.monotonic() - began < 8.0
