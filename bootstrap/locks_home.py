"""Where locks that are learnt or solved are kept: with the user's configuration, or nowhere, if nothing may change."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from bootstrap.state import Home


def of(home: Home, *, keep: bool) -> Home:
    """The home itself; or, where nothing is kept, one with a copy of the locks that goes with this process."""
    if keep:
        return home
    scratch = Path(tempfile.mkdtemp(prefix="i2v-setup-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    locks = home.config / "locks"
    if locks.is_dir():
        shutil.copytree(locks, scratch / "locks")
    return replace(home, config=scratch)
