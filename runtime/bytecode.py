"""How much of importing is compiling: Python compiles what is imported for the first time, and keeps the bytecode.

Knows nothing of what is imported. Compiling what nobody imports would cost several times as much.
"""

import time
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from types import TracebackType
from typing import Any

from runtime.timing import Phase

_WORTH_TELLING = 0.05  # seconds: a module here or there is compiled at every start


class Compiling:
    """Counts, while the `with` block runs, what Python's own import system compiles and writes.

    Attributes:
        modules: how many were compiled.
        busy: how many seconds of work that was, the writing of the bytecode included.
    """

    def __init__(self) -> None:
        self.modules = 0
        self.busy = 0.0
        self._first: float | None = None
        self._last = 0.0

    def __enter__(self) -> "Compiling":
        loader: Any = SourceFileLoader
        compile_, write = loader.source_to_code, loader.set_data
        self._restore = {name: loader.__dict__.get(name) for name in ("source_to_code", "set_data")}

        def source_to_code(itself: SourceFileLoader, *args: Any, **kwargs: Any) -> Any:
            self.modules += 1
            return self._timed(compile_, itself, *args, **kwargs)

        def set_data(itself: SourceFileLoader, *args: Any, **kwargs: Any) -> Any:
            return self._timed(write, itself, *args, **kwargs)

        loader.source_to_code, loader.set_data = source_to_code, set_data
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, was in self._restore.items():
            if was is None:
                delattr(SourceFileLoader, name)
            else:
                setattr(SourceFileLoader, name, was)

    def phase(self, epoch: float) -> Phase | None:
        """From the first module that was compiled to the last, counted from `epoch`; None: there was little to do."""
        if self._first is None or self.busy < _WORTH_TELLING:
            return None
        return Phase("imports.bytecode", self._first - epoch, self._last - self._first)

    def _timed(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        began = time.monotonic()
        if self._first is None:
            self._first = began
        try:
            return work(*args, **kwargs)
        finally:
            self._last = time.monotonic()
            self.busy += self._last - began
