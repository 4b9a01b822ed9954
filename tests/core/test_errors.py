"""The error tree: codes are unique and stable, and transience is a property of the class."""

from corelane.core import errors


def _tree(root: type[errors.CorelaneError]) -> list[type[errors.CorelaneError]]:
    return [root, *(inner for child in root.__subclasses__() for inner in _tree(child))]


def test_every_error_has_a_code_of_its_own() -> None:
    """A code names one class, so a log line or a reply can be traced to it."""
    codes = [error.code for error in _tree(errors.CorelaneError)]
    assert len(codes) == len(set(codes))


def test_every_error_is_either_transient_or_permanent() -> None:
    """Retry decisions read the class, never the message."""
    for error in _tree(errors.CorelaneError)[1:]:
        assert issubclass(error, errors.TransientError) != issubclass(error, errors.PermanentError)
        assert error.transient == issubclass(error, errors.TransientError)


def test_detail_stays_out_of_the_public_message() -> None:
    """What a remote caller sees never carries the private detail."""
    error = errors.DataError("rows must exist, got none", detail="/private/path")
    assert str(error) == error.message == "rows must exist, got none"
    assert error.detail == "/private/path"


def test_overload_says_when_to_come_back() -> None:
    """A shed request learns how long to wait."""
    assert errors.OverloadedError("queue is full", retry_after_s=2.5).retry_after_s == 2.5
