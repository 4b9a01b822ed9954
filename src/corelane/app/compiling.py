"""Where what inductor compiles is kept: below the cache directory, readable by this user alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from corelane.app.config import RootConfig, cache_directory

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@contextmanager
def compile_cache(root: RootConfig) -> Iterator[None]:
    """Within the context inductor compiles into `inductor` below the cache directory, of mode 0700, since what lies
    there is loaded as code. A place that the environment names already is left as it is.
    """
    if VARIABLE in os.environ:
        yield
        return
    folder = cache_directory(root).absolute() / "inductor"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
