"""The server's configuration: its defaults, and what it refuses."""

from __future__ import annotations

import pytest

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError
from corelane.serve.config import ServeConfig, is_loopback


def test_the_defaults_are_the_documented_ones() -> None:
    """Port 8000 of loopback, one worker, a queue of a thousand."""
    config = ServeConfig()
    assert (config.host, config.port, config.workers, config.queue_size) == ("127.0.0.1", 8000, 1, 1000)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_listening_off_loopback_must_be_asked_for(host: str) -> None:
    """Without TLS and tokens a server off loopback starts only with `insecure: true`, and the refusal says so."""
    with pytest.raises(ConfigError, match=r"host must be a loopback address.*insecure: true"):
        validate_config({"host": host}, ServeConfig)
    assert validate_config({"host": host, "insecure": True}, ServeConfig).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_is_recognised(host: str) -> None:
    """Every loopback address needs no permission."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "values",
    [{"port": 65536}, {"port": -1}, {"workers": -1}, {"queue_size": 0}, {"max_body": 1}, {"body_timeout_s": 0}],
)
def test_impossible_limits_are_refused(values: dict[str, int]) -> None:
    """A limit that nothing could pass, or a port that cannot be, is an error of the configuration."""
    with pytest.raises(ConfigError):
        validate_config(values, ServeConfig)


def test_models_need_the_registry_that_they_are_in() -> None:
    """The message names the first of them."""
    with pytest.raises(ConfigError, match="registry must be given where models are, got none for 'digits@champion'"):
        validate_config({"models": ["digits@champion"]}, ServeConfig)
    assert validate_config({"models": ["digits"], "registry": "models"}, ServeConfig).model_control == "none"


def test_sizes_are_written_with_units() -> None:
    """`max_body: 1MiB` is a mebibyte."""
    assert validate_config({"max_body": "1MiB"}, ServeConfig).max_body == 1 << 20


def test_as_many_workers_as_there_is_room_for() -> None:
    """`auto`: one for each `threads` CPUs; a number stays."""
    assert validate_config({"workers": "auto", "threads": 2}, ServeConfig).with_workers(7).workers == 3
    assert validate_config({"workers": "auto", "threads": 4}, ServeConfig).with_workers(2).workers == 1
    assert ServeConfig(workers=5).with_workers(64).workers == 5
    with pytest.raises(ConfigError):
        validate_config({"workers": "many"}, ServeConfig)
