"""Remote files: the one place that imports fsspec. Objects are listed with what identifies their content, and copied.

Sources fetch raw data with it; the shared tier of the cache keeps bundles with it. Any store that fsspec opens and
whose scheme is in `SCHEMES` will do; plain HTTP is not among them, because `data/sources/http/` reads it with limits.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from corelane.core.errors import (
    ConfigError,
    CorelaneError,
    DataError,
    MissingDependencyError,
    SourceRestartError,
)

SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "sftp", "hdfs", "file", "memory")
MAX_FILES = 1_000_000  # in one listing
_CHUNK_BYTES = 1 << 20
_IDENTITIES = ("ETag", "etag", "md5", "version", "LastModified", "last_modified", "mtime", "created")
_REFUSALS = ("Permission", "Credential", "Authentication", "Forbidden", "Unauthorized")
_EXTRAS = {"s3": "s3", "s3a": "s3"}


def is_remote(path: str) -> bool:
    """Whether `path` is a URL and not a local path."""
    return "://" in path


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An object: its URL, its name below what was listed, its size in bytes, and the store's word for its content."""

    url: str
    name: str
    size: int
    identity: str


class RemoteStore:
    """The store of one URL. Nothing is asked of it before the first call: some drivers connect when they are made.

    Raises `ConfigError` for a scheme that is not allowed, `MissingDependencyError` without the package that speaks it.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or "::" in url or ".." in PurePosixPath(rest).parts:
            raise ConfigError(
                f"a remote path must begin with one of {', '.join(SCHEMES)} and hold no '::' or '..', got {url!r}; "
                "correct it"
            )
        self.url = url
        self._options = options
        with _driver_expected(scheme):
            fsspec.get_filesystem_class(scheme)

    @cached_property
    def _files(self) -> Any:
        """The driver, made by the first call inside `_errors`, which says what its constructor finds wrong."""
        scheme = self.url.partition("://")[0]
        with _driver_expected(scheme):
            return fsspec.filesystem(scheme, use_listings_cache=False, **self._options)

    def list(self) -> tuple[RemoteFile, ...]:
        """The object, the objects below the folder, or those that the glob matches, by name.

        Raises `DataError` when there is none, or one whose name could lead out of the folder it is fetched to.
        """
        files = self.list_below(self.url)
        if not files:
            raise DataError(f"{self.url} must name at least one file, got none; check it and the store's address")
        return files

    def list_below(self, url: str) -> tuple[RemoteFile, ...]:
        """`list` for another URL of the same store, where none is fine."""
        found, base = self._find(url)
        files = [_file(url, name, info, base) for name, info in found.items() if info.get("type") != "directory"]
        visible = sorted(
            (file for file in files if file.size or not file.name.endswith("/")), key=lambda file: file.name
        )
        if len(visible) > MAX_FILES:
            raise DataError(f"{url} must name at most {MAX_FILES} files, got {len(visible)}; narrow it down")
        for file in visible:
            _check_name(file)
        return tuple(visible)

    def names(self) -> frozenset[str]:
        """The names of what lies directly in the folder of this store; none where there is no such folder."""
        with self._errors():
            driver = self._files
            try:
                paths = driver.ls(self.url, detail=False)
            except FileNotFoundError:
                return frozenset()
        return frozenset(path.rstrip("/").rpartition("/")[2] for path in paths)

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Copy `file` to the local `target`. Raises `SourceRestartError` when the connection broke or the object is no
        longer what was listed.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with target.open("wb") as sink:  # outside `_errors`: a full disk here is no fault of the store
            for piece in self._pieces(file):
                size += sink.write(piece)
                if size > file.size:
                    break
        if size != file.size or self._identity_of(file) != file.identity:
            raise SourceRestartError(f"{file.url} must not change while it is read, but it did; it is read anew")

    def put(self, source: Path, url: str) -> None:
        """Copy the local file `source` to `url`; object stores show it whole or not at all."""
        with self._errors(), source.open("rb") as content:
            self._files.makedirs(url.rpartition("/")[0], exist_ok=True)
            with self._files.open(url, "wb") as sink:
                shutil.copyfileobj(content, sink, _CHUNK_BYTES)

    def create(self, url: str, data: bytes) -> bool:
        """Put `data` at `url` if nothing lies there; whether it was put. Of several, one is first: on S3, Google's
        store and in memory; other drivers look and then put.
        """
        with self._errors():
            self._files.makedirs(url.rpartition("/")[0], exist_ok=True)
            try:
                self._files.pipe_file(url, data, mode="create")
            except OSError:  # of what class, when something is there, drivers do not agree
                if not self._files.exists(url):
                    raise
                return False
        return True

    def read(self, url: str, max_bytes: int) -> bytes | None:
        """The content of a small object, or None when there is none. Raises `DataError` above `max_bytes`."""
        with self._errors():
            try:
                with self._files.open(url, "rb") as source:
                    data: bytes = source.read(max_bytes + 1)
            except FileNotFoundError:
                return None
        if len(data) > max_bytes:
            raise DataError(f"{url} must be at most {max_bytes} bytes, got more; it is not what was looked for")
        return data

    def copy(self, url: str, target: Path) -> None:
        """Copy the object at `url` to the local `target`; whoever asks knows what it must be. Raises `DataError`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._errors(), self._files.open(url, "rb", cache_type="none") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)

    def remove(self, url: str) -> None:
        """Remove what lies at and below `url`; nothing there is fine."""
        with self._errors():
            if self._files.exists(url):
                self._files.rm(url, recursive=True)

    def _find(self, url: str) -> tuple[Mapping[str, Mapping[str, Any]], str]:
        """What the driver knows of the objects at `url`, by path, and the folder that their names begin below."""
        with self._errors():
            driver = self._files
            path = driver._strip_protocol(url)
            try:
                if any(sign in path for sign in "*?["):
                    return driver.glob(path, detail=True), _fixed_part(path)
                if driver.isfile(path):
                    return {path: driver.info(path)}, path.rpartition("/")[0]
                return driver.find(path, detail=True), path.rstrip("/")
            except FileNotFoundError:  # no such folder or bucket
                return {}, path

    def _pieces(self, file: RemoteFile) -> Iterator[bytes]:
        with self._errors(), self._files.open(file.url, "rb", cache_type="none") as source:
            while piece := source.read(_CHUNK_BYTES):
                yield piece

    def _identity_of(self, file: RemoteFile) -> str:
        with self._errors():
            return _identity(self._files.info(file.url))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise DataError(f"{self.url} must exist, got nothing there; check it", detail=str(error)) from error
        except CorelaneError:
            raise
        except (TypeError, AttributeError, KeyError, ValueError) as error:
            raise ConfigError(
                f"storage_options must fit {self.url}, got: {error}; correct them", detail=str(error)
            ) from error
        except Exception as error:
            # The drivers' own classes have nothing in common, not even that of the system's errors.
            if any(sign in type(error).__name__ for sign in _REFUSALS):
                raise ConfigError(
                    f"{self.url} must let us in, got a refusal; check the credentials", detail=str(error)
                ) from error
            raise SourceRestartError(
                f"{self.url} must be reachable, got {type(error).__name__}; it may work later", detail=str(error)
            ) from error


@contextmanager
def _driver_expected(scheme: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        advice = f"pip install 'corelane[{extra}]'" if extra else f"pip install what fsspec needs for {scheme}"
        raise MissingDependencyError(f"{scheme} must have its driver installed, got none; {advice}") from error


def _file(url: str, path: str, info: Mapping[str, Any], base: str) -> RemoteFile:
    scheme = url.partition("://")[0]
    name = path.removeprefix(base).removeprefix("/")
    return RemoteFile(
        f"{scheme}://{path.lstrip('/') if scheme != 'file' else path}", name, int(info["size"]), _identity(info)
    )


def _check_name(file: RemoteFile) -> None:
    """An object's name is any text; as a local path it must be plain, and no other object's."""
    name = PurePosixPath(file.name)
    if str(name) != file.name or name.is_absolute() or ".." in name.parts or "\0" in file.name:
        raise DataError(
            f"an object below a folder must have a name without '.', '..', empty parts and NUL, got {file.name!r} "
            f"in {file.url}; rename it, or name the objects that are meant"
        )


def _identity(info: Mapping[str, Any]) -> str:
    return ";".join(f"{key}={info[key]}" for key in _IDENTITIES if info.get(key) is not None)


def _fixed_part(pattern: str) -> str:
    """The folder in front of the first part with a wildcard."""
    parts = pattern.split("/")
    first = next(index for index, part in enumerate(parts) if any(sign in part for sign in "*?["))
    return "/".join(parts[:first])
