"""Python's collection of cycles, put off while many small objects are made that all stay for a while."""

from __future__ import annotations

import contextlib
import gc


@contextlib.contextmanager
def collection_put_off():
    """Within it (or within a function that it decorates) no cycles are looked for.

    To look for them takes a time in proportion to all that there is, a tenth of a second where JAX and pandas are loaded: half of that of
    laying 500 subjects out, and not always, so that 500 took four times as long as 250.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
