"""The server's API key: from the environment, or from the file that the installed service reads. Never an argument."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from bootstrap.errors import UsageProblem
from bootstrap.state import Home

KEY = "I2V_API_KEY"


def known(home: Home, environ: Mapping[str, str] = os.environ) -> str | None:
    """The key, if there is one and we may read it."""
    return environ.get(KEY) or _kept(home)


def as_file(value: str) -> str:
    r"""The file's text. systemd takes a backslash before a quote, a backslash, a backtick and a dollar away.

    Raises:
        UsageProblem: the key cannot stand in it.
    """
    if not value.isprintable():
        raise UsageProblem(f"{KEY} has characters that cannot be printed", "take another key")
    escaped = re.sub(r'(["\\`$])', r"\\\1", value)
    return f'{KEY}="{escaped}"\n'


def _kept(home: Home) -> str | None:
    try:
        line = home.service_key.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    name, _, value = line.partition("=")
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if name == KEY else None
