"""Whether a process is a service of systemd: then that should stop it, which may start it again otherwise."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from bootstrap.service import UNIT
from bootstrap.small_files import text

_HIERARCHIES = ("", "name=systemd")  # the unified one, and systemd's own beside the older ones


def stop_command(pid: int, root: Path = Path("/")) -> str | None:
    """The command that stops the service whose main process this is; None: it is no service."""
    process = root / "proc" / str(pid)
    for line in text(process / "cgroup").splitlines():
        _, hierarchy, path = line.split(":", 2)
        unit = PurePosixPath(path).name
        if hierarchy not in _HIERARCHIES or not unit.endswith(".service"):
            continue
        # What was started in a terminal may stand in a service too: that of the terminal, of sshd or cron.
        if unit == UNIT or f"SYSTEMD_EXEC_PID={pid}" in text(process / "environ").split("\0"):
            how = "systemctl --user" if "/user@" in path else "sudo systemctl"
            return f"{how} stop {unit}"
    return None
