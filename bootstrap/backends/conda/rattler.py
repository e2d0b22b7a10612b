"""py-rattler from this side: requests to its process, progress and answers. See `bootstrap.backends.rattler_child`."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bootstrap import spawn
from bootstrap.errors import SetupError

_MODULE = "bootstrap.backends.rattler_child"
# It asks this machine only. What an index may link to elsewhere (the base address of its shards) leads nowhere.
_NOWHERE = "http://127.0.0.1:9"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_DIRECT = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

Progress = Callable[[float, float, str], None]


class Failed(SetupError):
    """The act could not be done; the message is py-rattler's own."""


class NoSolution(Failed):
    """No set of packages is what was asked for."""


def ask(act: str, request: Mapping[str, Any], env: Mapping[str, str], on_progress: Progress | None = None) -> Any:
    """Have an act done; its answer.

    Args:
        act: see there.
        request: what the act takes; nothing secret, since it lies in a file for a moment.
        env: added to the environment, such as CONDA_OVERRIDE_CUDA.
        on_progress: told how much of how much is done, and what is being done.

    Raises:
        NoSolution: `solve` found none.
        Failed: it could not be done, or the process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="i2v-setup-") as directory:
        path = Path(directory) / "request.json"
        path.write_text(json.dumps({"act": act, **request}), encoding="utf-8")
        blocked = {name: _NOWHERE for lower in _PROXIES for name in (lower, lower.upper())}
        command = [sys.executable, "-m", _MODULE, str(path)]
        last: dict[str, Any] = {"event": "nothing"}
        printed = ""
        with path.with_suffix(".log").open("w+", encoding="utf-8", errors="replace") as errors:
            with spawn.process(command, env={**blocked, **_DIRECT, **env}, stderr=errors.fileno()) as child:
                for line in spawn.lines(child):
                    last = _event(line) or last
                    if last["event"] == "progress" and on_progress is not None:
                        on_progress(float(last["done"]), float(last["total"]), str(last["note"]))
                code = child.wait()
            errors.seek(0)
            printed = errors.read()
    if last["event"] == "done":  # whatever came after that does not matter
        return last
    if last["event"] == "error":
        if last["kind"] == "no solution":
            raise NoSolution(str(last["message"]), "loosen what is asked for, or name another channel")
        raise Failed(str(last["message"]), "run again; what was fetched is kept")
    raise Failed(
        f"the built-in conda solver ended with {_ending(code, printed)}", "run again; what was fetched is kept"
    )


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None  # the library's own print
    return event if isinstance(event, dict) and "event" in event else None


def _ending(code: int, printed: str) -> str:
    lines = [line for line in printed.splitlines() if line.strip()]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {lines[-1].strip()[:300]}" if lines else f"{how}, without a word"
