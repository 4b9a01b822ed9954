"""The error tree: every failure Corelane reports on purpose is one of these classes.

A class says two things: its `code` (a stable string for logs, replies and tests) and whether it is transient (the same
call may succeed later) or permanent. An instance carries a public message, safe to show to a remote caller, and a
private detail for logs. Exit, HTTP and gRPC statuses are not decided here; the edges map codes to them
(`web/status.py`, `cli.py`). Messages read `<what> must be <constraint>, got <value>; <what to do>`.
"""

from __future__ import annotations

from typing import ClassVar


class CorelaneError(Exception):
    """Root of the tree. `str(error)` is the public message; `detail` stays in logs."""

    code: ClassVar[str] = "error"
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class PermanentError(CorelaneError):
    """The same call will fail again until something is changed."""

    code = "permanent"


class TransientError(CorelaneError):
    """The same call may succeed later: waiting and retrying is reasonable."""

    code = "transient"
    transient = True


# --- what a user gives us -------------------------------------------------------------------------------------------


class ConfigError(PermanentError):
    """A configuration, argument or option is wrong."""

    code = "config_invalid"


class MissingDependencyError(PermanentError):
    """An optional package is needed and absent; the message names the extra to install."""

    code = "dependency_missing"


class DataError(PermanentError):
    """Data as a whole cannot be used: missing, empty, of one class only, or not what the schema says."""

    code = "data_invalid"


class SourceReadError(TransientError):
    """A source broke while it was read (a dropped connection, a disk error); a retry may succeed."""

    code = "source_read"


class SourceRestartError(SourceReadError):
    """A read broke and cannot be continued: what came so far must be discarded, and the read begun anew."""

    code = "source_restart"


class CursorError(PermanentError):
    """A cursor does not belong to this source, or the source has changed since it was taken."""

    code = "cursor_invalid"


# --- what lies on disk ----------------------------------------------------------------------------------------------


class BundleError(PermanentError):
    """A bundle (checkpoint, package, prepared data) is torn, altered or of an unknown version."""

    code = "bundle_broken"


class RegistryError(PermanentError):
    """What a registry of models says about a model is torn, altered or of an unknown version."""

    code = "registry_broken"


class DiskFullError(TransientError):
    """There is no space left to write; nothing that existed before was touched."""

    code = "disk_full"


class SinkWriteError(TransientError):
    """A database did not take the results (a dropped connection, a full disk); nothing of them is to be seen."""

    code = "sink_write"


class StateError(PermanentError):
    """A state dict does not fit its receiver: an unknown version, or a leaf that is missing or of another shape."""

    code = "state_mismatch"


class SkewError(PermanentError):
    """Served and training-path outputs differ; the package is not published."""

    code = "skew_detected"


class GoldenError(PermanentError):
    """A loaded package does not reproduce its golden rows on this machine."""

    code = "golden_mismatch"


# --- training -------------------------------------------------------------------------------------------------------


class NonFiniteLossError(PermanentError):
    """The loss became NaN or infinite."""

    code = "loss_not_finite"


class CrashLoopError(PermanentError):
    """A run ended at the same step each time it was started again."""

    code = "crash_loop"


class TrainerFailedError(PermanentError):
    """The trainer, or a network or step given to it, raised an error that it would raise again."""

    code = "trainer_failed"


class OutOfMemoryError(TransientError):
    """The system has no memory left for the work."""

    code = "out_of_memory"


class SystemLimitError(TransientError):
    """A limit of the operating system was reached: open files, processes."""

    code = "system_limit"


class InterruptedRunError(TransientError):
    """The run was asked to stop and saved its state; run the same command again with `--resume`."""

    code = "run_interrupted"


class SaveError(TransientError):
    """Checkpoints cannot be written, for another reason than a full disk; those that exist are whole."""

    code = "save_failed"


class RunLockedError(PermanentError):
    """Another trainer holds the run's directory, or has taken it over."""

    code = "run_locked"


class WorkerLostError(TransientError):
    """A supervised process died and was not brought back."""

    code = "worker_lost"


class MemoryBudgetError(TransientError):
    """A memory pool has no room left for what was asked."""

    code = "memory_budget"


class PortInUseError(PermanentError):
    """The address to listen on is taken."""

    code = "port_in_use"


# --- requests -------------------------------------------------------------------------------------------------------


class RequestError(PermanentError):
    """A request is malformed or does not match the model's signature."""

    code = "request_invalid"


class NotFoundError(PermanentError):
    """There is no such model, version, route or file."""

    code = "not_found"


class UnauthorizedError(PermanentError):
    """The request brings no token, or one that is not known or has expired."""

    code = "unauthorized"


class ForbiddenError(PermanentError):
    """The caller, or anybody, is not allowed to do this here."""

    code = "forbidden"


class MethodNotAllowedError(PermanentError):
    """The route exists, but not for this method."""

    code = "method_not_allowed"


class SlowBodyError(TransientError):
    """The request body did not arrive in time."""

    code = "body_timeout"


class PayloadTooLargeError(PermanentError):
    """A request body, decoded or on the wire, is larger than the limit."""

    code = "payload_too_large"


class HeadTooLargeError(PermanentError):
    """The request line and headers are longer, or more, than the limit."""

    code = "head_too_large"


class UnsupportedMediaError(PermanentError):
    """The request body's type or encoding is not one the route reads."""

    code = "unsupported_media"


class OverloadedError(TransientError):
    """The request queue is full; `retry_after_s` says when to come back."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.retry_after_s = retry_after_s


class NotReadyError(TransientError):
    """The server or the model is loading or draining."""

    code = "not_ready"


class DeadlineError(TransientError):
    """The request's deadline passed before its answer was ready."""

    code = "deadline_exceeded"


# --- what a client meets ----------------------------------------------------------------------------------------------


class ConnectionLostError(TransientError):
    """The server could not be reached, or the connection broke before the answer was whole."""

    code = "connection_lost"


class ServerFailedError(PermanentError):
    """The server failed to answer, or answered what is no answer; its log knows more."""

    code = "server_failed"
