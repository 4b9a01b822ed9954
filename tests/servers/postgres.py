"""A PostgreSQL server of the tests' own: a fresh cluster in a temporary folder, trust on loopback, no fsync."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.servers.ports import free_port

USER = "postgres"


def postgres_program(name: str) -> Path | None:
    """A program of the newest PostgreSQL that Debian installed, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return found[-1] if found else None


class PostgresServer:
    """A running cluster. `stop` and `start` may be called in a test that says so by its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "data"
        self.port = free_port()
        # The server refuses to run as root: root's tests run it as the user that the package made.
        self._as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.getuid() == 0 else []
        if self._as_user:
            shutil.chown(folder, USER)
        initdb = postgres_program("initdb")
        arguments = ["-D", str(self._folder), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run([*self._as_user, str(initdb), *arguments], check=True, capture_output=True, cwd=folder)
        self.start()

    @property
    def url(self) -> str:
        """URL of the maintenance database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str, url: str | None = None) -> None:
        """Run a statement outside a transaction with psql."""
        self.ask(statement, url)

    def ask(self, statement: str, url: str | None = None) -> str:
        """Run a statement as `execute` does; its rows as lines of text."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        command = [str(postgres_program("psql")), *options, "-c", statement, url or self.url]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def start(self) -> None:
        """Start the server, and wait until it answers. It is no child of this process, so a test may restart it."""
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        settings = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self._control("start", "-w", "-t", "60", "-l", str(self._folder / "log"), "-o", settings)

    def stop(self) -> None:
        """Stop the server at once: its clients' connections break."""
        self._control("stop", "-w", "-m", "immediate")

    def _control(self, *arguments: str) -> None:
        command = [*self._as_user, str(postgres_program("pg_ctl")), "-D", str(self._folder), *arguments]
        subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests; the test that takes it is marked `needs("postgres")`."""
    with tempfile.TemporaryDirectory(prefix="corelane-postgres-") as folder:
        server = PostgresServer(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    """The URL of an empty PostgreSQL database of the test's own."""
    return postgres_server.new_database()
