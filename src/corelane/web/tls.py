"""The certificate and key that a server shows: two PEM files, which fit each other before anything is started."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from corelane.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate (with those that vouch for it behind it) and its key, both PEM without a password."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Raise `ConfigError` where a file is missing or none, or the two do not belong together."""
        for path in (self.certificate, self.key):
            if not path.is_file():
                raise ConfigError(f"the certificate and its key must be PEM files, got no file at {path}")
        self.context()

    def context(self) -> ssl.SSLContext:
        """What a server needs to speak TLS 1.2 or 1.3. Raises `ConfigError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, _no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(
                f"{self.certificate} must be a PEM certificate and {self.key} its key, without a password, "
                f"got: {getattr(error, 'reason', None) or error}"
            ) from error
        return context


def _no_password() -> str:
    raise ValueError("a key with a password")
