from __future__ import annotations

import importlib
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from runtime import bytecode
from runtime.bytecode import Compiling


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package of three modules that was never imported."""
    name = "compiled_for_the_first_time"
    directory = tmp_path / name
    directory.mkdir()
    directory.joinpath("__init__.py").write_text(f"from {name} import one, two\n", encoding="utf-8")
    for module in ("one", "two"):
        directory.joinpath(f"{module}.py").write_text("VALUE = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(bytecode, "_WORTH_TELLING", 0.0)
    return name


def forget(package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def test_what_is_imported_for_the_first_time_is_counted_and_only_then(package: str) -> None:
    epoch = time.monotonic()
    with Compiling() as first:
        importlib.import_module(package)
    forget(package)
    with Compiling() as second:
        importlib.import_module(package)
    forget(package)
    phase = first.phase(epoch)
    assert first.modules == 3
    assert phase is not None
    assert phase.started >= 0
    assert 0 < first.busy <= phase.seconds
    assert (second.modules, second.busy, second.phase(epoch)) == (0, 0.0, None)


def test_the_import_system_is_as_it_was_afterwards(package: str) -> None:
    before = dict(vars(SourceFileLoader))
    with pytest.raises(ModuleNotFoundError), Compiling():
        importlib.import_module(f"{package}.three")
    forget(package)
    assert dict(vars(SourceFileLoader)) == before
