"""Header fields: what may be sent, where logins go, and several fields of one name."""

from __future__ import annotations

import base64

import pytest

from corelane.core.errors import ConfigError
from corelane.data.sources.http.fields import own_fields, received_fields


def test_configured_fields_and_the_login_of_the_url() -> None:
    """Names in lower case; the URL's user becomes a basic login unless another one is configured."""
    login = "Basic " + base64.b64encode("u:p/\u00e4".encode()).decode()
    assert own_fields({"X-Key": "1"}, "https://u:p%2F%C3%A4@h/") == {"x-key": "1", "authorization": login}
    assert own_fields({"Authorization": "Bearer x"}, "https://u:p@h/") == {"authorization": "Bearer x"}
    assert own_fields({}, "https://h/") == {}


@pytest.mark.parametrize(
    "name", ["Host", "content-length", "Transfer-Encoding", "Range", "If-None-Match", "a b", "", "a:b"]
)
def test_fields_that_frame_or_condition_a_request_are_refused(name: str) -> None:
    """They are ours to send, or no names at all."""
    with pytest.raises(ConfigError, match="must neither frame a request"):
        own_fields({name: "x"}, "https://h/")


@pytest.mark.parametrize("value", ["geheim\r\nHost: evil", "geheim\n", " geheim", "geheim\0", "geheim\u00e9"])
def test_values_cannot_begin_another_field_and_are_not_repeated(value: str) -> None:
    """Line breaks, NUL and other letters are refused in words that do not hold the token."""
    with pytest.raises(ConfigError, match=r"data\.source\.headers\.X-Key must be printable") as caught:
        own_fields({"X-Key": value}, "https://h/")
    assert "geheim" not in str(caught.value)


def test_received_fields_are_brought_together() -> None:
    """One that comes several times is a list; bytes that are no UTF-8 do no harm."""
    fields = received_fields([(b"Link", b"<a>"), (b"LINK", b"<b>"), (b"ETag", b'"\xff"')])
    assert fields == {"link": "<a>, <b>", "etag": '"\udcff"'}
