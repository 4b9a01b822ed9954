"""The one table from error codes to HTTP statuses, and what a failed request is told.

A code that is not in the table is our own failure: the caller gets status 500 with an opaque id, the log gets the rest.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from corelane.core.errors import CorelaneError, OverloadedError

SHED = 429
"""The status of a request that was shed; a server may be told to answer another."""

UNAUTHORIZED = 401
HTTP_STATUS = {
    "request_invalid": 400,
    "unauthorized": UNAUTHORIZED,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "payload_too_large": 413,
    "unsupported_media": 415,
    "head_too_large": 431,
    "overloaded": SHED,
    "not_ready": 503,
    "worker_lost": 503,
    "memory_budget": 503,
    "deadline_exceeded": 504,
}
INTERNAL_ERROR = 500
CLIENT_GONE = 499
"""The status under which a request is counted whose client left before the answer; nobody receives it."""

MAX_MESSAGE = 600  # characters; a message quotes what it got, and what it got may be megabytes


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failed request is answered: a status, a message safe to show, and an id when the log has more to tell."""

    status: int
    message: str
    error_id: str | None = None
    retry_after_s: float | None = None


def failure_of(error: BaseException) -> Failure:
    """The answer to `error`. Whatever is not in `HTTP_STATUS` becomes 500 with an id and no detail."""
    if not isinstance(error, CorelaneError) or error.code not in HTTP_STATUS:
        error_id = secrets.token_hex(8)
        return Failure(
            INTERNAL_ERROR, f"the server failed to answer; tell its operator the error id {error_id}", error_id
        )
    message = error.message if len(error.message) <= MAX_MESSAGE else error.message[: MAX_MESSAGE - 3] + "..."
    retry_after_s = error.retry_after_s if isinstance(error, OverloadedError) else None
    return Failure(HTTP_STATUS[error.code], message, retry_after_s=retry_after_s)
