"""What is behind `corelane token`: making, listing and revoking the tokens that a server asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from corelane.core.clock import Clock, SystemClock
from corelane.core.types import JsonObject
from corelane.serve.tokens import new_token, read_tokens, revoke_token, told_token

DAY_S = 86_400.0


def new(
    name: str, scopes: Sequence[str], *, file: Path, days: float | None = None, clock: Clock | None = None
) -> JsonObject:
    """Add a token to `file`; it is in the answer, and nowhere else. Raises `ConfigError`."""
    lifetime_s = None if days is None else days * DAY_S
    text = new_token(file, name, scopes, clock or SystemClock(), lifetime_s=lifetime_s)
    return {"token": text, "name": name, "scopes": sorted(set(scopes)), "file": str(file)}


def listed(file: Path) -> JsonObject:
    """The tokens in `file`, without what they are."""
    return {"file": str(file), "tokens": [told_token(one) for one in read_tokens(file).tokens]}


def listed_text(answer: JsonObject) -> str:
    """One line a token."""
    lines = []
    for one in answer["tokens"]:
        until = f"until {one['expires']}" if one["expires"] else "for ever"
        lines.append(f"{one['name']:<24} {','.join(one['scopes']):<20} from {one['created']} {until}")
    return "\n".join(lines) or f"{answer['file']} holds no token"


def revoke(name: str, *, file: Path, clock: Clock | None = None) -> JsonObject:
    """Take a token out of `file`: servers notice within a second. Raises `ConfigError`."""
    revoke_token(file, name, clock or SystemClock())
    return {"revoked": name, "file": str(file)}
