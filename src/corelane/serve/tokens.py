"""Tokens: who may infer, read and manage. The file holds a hash of each, and is looked at again when it changes.

A token is 32 random bytes, so one plain SHA-256 is enough: nobody can try 2^256 of them, however fast a hash is. Slow
hashes are for passwords, and would cost every request a tenth of a second. Hashes are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError

from corelane.core.clock import Clock
from corelane.core.config import Section
from corelane.core.errors import ConfigError, ForbiddenError, UnauthorizedError
from corelane.store.durable import write_atomic
from corelane.store.hold import builder_lock
from corelane.web.route import Scope

SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "crl_"  # of a token, by which scanners of repositories and logs know it
TOKEN_BYTES = 32
MAX_FILE_BYTES = 1 << 20
MAX_HEADER = 512  # characters of a header that is looked at
LOOK_S = 1.0  # how long a change of the file may go unnoticed
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$"
WAIT_S = 10.0
_SCHEME = "Bearer "


LAST_S = 253_402_300_799.0  # the end of the year 9999, the last that a date can tell


class Token(Section):
    """One token as the file has it; `expires_s` is seconds since the epoch, None for never."""

    name: str = Field(pattern=NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = Field(min_length=1)
    created_s: float = Field(ge=0, le=LAST_S)
    expires_s: float | None = Field(None, le=LAST_S)


class TokenList(Section):
    """The whole file."""

    version: Literal[1] = 1
    tokens: tuple[Token, ...] = ()


class TokenFile:
    """The tokens in the file at `path`, as they are now. For one thread.

    Raises `ConfigError` where there is no such file or it is none; `tell` is called when it becomes so later, and the
    tokens that were known before stay.
    """

    def __init__(self, path: Path, clock: Clock, tell: Callable[[str], None] = lambda _: None) -> None:
        self._path = path
        self._clock = clock
        self._tell = tell
        self._looked_s = clock.monotonic()
        self._told = ""
        self._stamp = _stamp(path)
        self._tokens = _by_digest(read_tokens(path))

    def check(self, authorization: str | None, scope: Scope) -> None:
        """Raise `UnauthorizedError` unless the header `authorization` brings a known token, and `ForbiddenError` unless
        that has `scope`.
        """
        self._look()
        if authorization is None or not authorization.startswith(_SCHEME) or len(authorization) > MAX_HEADER:
            raise UnauthorizedError("the header Authorization must be 'Bearer' and a token of this server, got none")
        digest = _digest(authorization[len(_SCHEME) :].strip())
        token = self._tokens.get(digest[:16])
        if token is None or not hmac.compare_digest(token.sha256, digest):
            raise UnauthorizedError("the token must be one of this server, got another; ask its operator for one")
        if token.expires_s is not None and self._clock.now() >= token.expires_s:
            raise UnauthorizedError(f"the token {token.name} must not have expired, it has; ask for a new one")
        if scope not in token.scopes:
            raise ForbiddenError(
                f"the token {token.name} must have the scope {scope}, it has {', '.join(sorted(token.scopes))}"
            )

    def _look(self) -> None:
        """Read the file anew if it has changed; at most once a second."""
        now_s = self._clock.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._tokens, self._stamp = _by_digest(read_tokens(self._path)), stamp
            self._told = ""
        except ConfigError as error:
            if error.message != self._told:  # once, not each second
                self._told = error.message
                self._tell(error.message)


def read_tokens(path: Path) -> TokenList:
    """What the file holds. Raises `ConfigError`."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} must be a file of tokens of at most {MAX_FILE_BYTES} bytes, got a larger one")
        tokens = TokenList.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise ConfigError(
            f"the file of tokens must be readable, got {path}: {error.strerror}; make one with `corelane token new`"
        ) from error
    except (ValidationError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} must be a file of tokens, got something else: {_first(error)}") from error
    if len({one.name for one in tokens.tokens}) < len(tokens.tokens):
        raise ConfigError(f"each token in {path} must have a name of its own, got one twice; revoke it")
    return tokens


def new_token(path: Path, name: str, scopes: Sequence[str], clock: Clock, *, lifetime_s: float | None = None) -> str:
    """Add a token to the file, which is made where there is none, and return it: it is nowhere else.

    Raises `ConfigError` for a name that is taken or cannot be one, where no scope is given, and for a lifetime that is
    none.
    """
    text = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    now_s = clock.now()
    if lifetime_s is not None and not -now_s <= lifetime_s <= LAST_S - now_s:
        raise ConfigError(f"the lifetime of a token must be seconds that end before the year 10000, got {lifetime_s}")
    with builder_lock(path.with_name(f"{path.name}.lock"), wait_s=WAIT_S, clock=clock, tell=lambda _: None):
        known = read_tokens(path).tokens if path.exists() else ()
        if name in {one.name for one in known}:
            raise ConfigError(f"the name of a token must be new in {path}, got {name}; revoke that one first")
        try:
            added = Token.model_validate(
                {
                    "name": name,
                    "sha256": _digest(text),
                    "scopes": list(scopes),
                    "created_s": now_s,
                    "expires_s": None if lifetime_s is None else now_s + lifetime_s,
                }
            )
        except ValidationError as error:
            raise ConfigError(
                f"a token must have a name of letters, digits and _.@- and scopes among {', '.join(SCOPES)}, "
                f"got {name[:80]!r}, {sorted(scopes)}"
            ) from error
        _write(path, (*known, added))
    return text


def revoke_token(path: Path, name: str, clock: Clock) -> None:
    """Take the token `name` out of the file. Raises `ConfigError` where it is not in it."""
    with builder_lock(path.with_name(f"{path.name}.lock"), wait_s=WAIT_S, clock=clock, tell=lambda _: None):
        known = read_tokens(path).tokens
        kept = tuple(one for one in known if one.name != name)
        if len(kept) == len(known):
            raise ConfigError(f"the token must be one of {[one.name for one in known]}, got {name[:80]!r}")
        _write(path, kept)


def told_token(token: Token) -> dict[str, Any]:
    """What may be shown of a token."""
    expires = None if token.expires_s is None else _date(token.expires_s)
    return {"name": token.name, "scopes": sorted(token.scopes), "created": _date(token.created_s), "expires": expires}


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    content = TokenList(tokens=tokens).model_dump(mode="json")
    for one in content["tokens"]:
        one["scopes"].sort()
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())
    path.chmod(0o600)


def _by_digest(tokens: TokenList) -> Mapping[str, Token]:
    """By the first half of their hashes, which says nothing about the other."""
    return {one.sha256[:16]: one for one in tokens.tokens}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
