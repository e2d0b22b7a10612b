"""The server as a service: a systemd unit that starts `run`, and the file that holds its API key.

Both are written through the journal, so `undo` takes them back. Nothing is started, and systemd need not be running.
How systemd quotes is known here; where units lie, its own manual says.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap import api_key, configs, current
from bootstrap.configs import Edit
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.generate import installed_model
from bootstrap.serving import Serving
from bootstrap.state import NAME, Home, writable
from mirrors.urls import is_loopback

UNIT = "i2v-setup.service"
_SYSTEM = Path("/etc/systemd/system")
_STOP_SECONDS = 45  # beyond a drain: what `run` and the server themselves wait, and some more
#: Whatever moves the tool's directories, or tells it what it may fetch.
_KEPT_VARIABLES = (NAME, "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "CUDA_VISIBLE_DEVICES")

_HEAD = """\
# Written by `i2v-setup run --install-service`; `i2v-setup undo` takes it back.
[Unit]
Description=i2v-setup: image-to-video server
After=network.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=exec
"""
# 130 is `run` that was told to stop while it was still starting; 2 is wrong usage, which no restart mends.
_ENDING = """\
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
SuccessExitStatus=130
# `run` alone gets the signal, and tells the server: the worker must live while a job is finished.
KillMode=mixed
"""
# What a user's own systemd can do without rights of its own.
_HARDENED = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
UMask=0077
"""
_HARDENED_SYSTEM = """\
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictNamespaces=yes
CapabilityBoundingSet=
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Left out for GPUs: PrivateDevices hides /dev/nvidia*, /dev/kfd and /dev/dri; ProtectClock and DevicePolicy=closed hide
# all devices that are not listed, and the numbers of NVIDIA's are not known before its modules are loaded;
# MemoryDenyWriteExecute forbids the code that torch makes while it runs; ProcSubset=pid hides /proc/meminfo. And
# RemoveIPC would take the shared memory of whatever else this user runs.
"""


@dataclass(frozen=True)
class Installed:
    """What was written, and what to do next.

    Attributes:
        written: the files that are different now.
        unit: the unit's text.
        commands: what starts the service, in order.
        notes: what a person should know.
    """

    written: tuple[Path, ...]
    unit: str
    commands: tuple[str, ...]
    notes: tuple[str, ...]


def install(home: Home, serving: Serving, *, user: bool, environ: Mapping[str, str] = os.environ) -> Installed:
    """Write the unit, and the key where one is set in I2V_API_KEY.

    Raises:
        UsageProblem: others could reach the server, and there is no key; or the key cannot be written down.
        SetupError: nothing is installed; no rights to write the unit; this is no Linux.
    """
    if sys.platform != "linux":
        raise SetupError("systemd is for Linux", "start `i2v-setup run` by what your system has for services")
    current.current(home)
    installed_model(home, serving.model)
    key = environ.get(api_key.KEY, "")
    if not key and not is_loopback(f"http://{_in_url(serving.host)}"):
        raise UsageProblem(
            f"others can reach {serving.host}, and there is no API key",
            f"set {api_key.KEY}: it goes into a file of its own",
        )
    directory = _user_directory(environ) if user else _SYSTEM
    if not user and os.geteuid() != 0:
        raise UsageProblem(f"{directory} is root's", "run it with sudo, or write a unit of your own: --user")
    text = unit(home, serving, user=user, environ=environ, has_key=bool(key))
    edits = [Edit(directory / UNIT, text)]
    if key:
        edits.append(Edit(home.service_key, api_key.as_file(key), private=True))
    _make_private(home.service_key)
    for place in _ours(home):
        writable(place)  # systemd wants them to be there
    written = configs.apply(edits, home.journal)
    return Installed(written, text, _commands(user=user), _notes(home, user=user))


def unit(home: Home, serving: Serving, *, user: bool, environ: Mapping[str, str], has_key: bool) -> str:
    """The unit's text."""
    own = [] if user else [f"User={_owner(home).pw_name}"]
    variables = [f"Environment={_quoted(f'{name}={environ[name]}')}" for name in _KEPT_VARIABLES if environ.get(name)]
    service = [
        *own,
        f"ExecStart={' '.join(map(_argument, _command(serving)))}",
        *variables,
        # "-": a key that is gone is told by the server itself, in its log.
        *([f"EnvironmentFile=-{str(home.service_key).replace('%', '%%')}"] if has_key else []),
        f"TimeoutStopSec={round(serving.drain) + _STOP_SECONDS}",
    ]
    hardened = _HARDENED
    if not user:
        hardened += _HARDENED_SYSTEM + _places(home) + _device_nodes()
    wanted_by = "default.target" if user else "multi-user.target"
    return "".join((_HEAD, "\n".join(service), "\n", _ENDING, hardened, f"\n[Install]\nWantedBy={wanted_by}\n"))


def _command(serving: Serving) -> Sequence[str]:
    script = Path(sys.executable).with_name("i2v-setup")
    tool = [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", "bootstrap.cli"]
    return [*tool, "run", *serving.options()]


def _ours(home: Home) -> list[Path]:
    return list(dict.fromkeys((home.data, home.cache, home.state, home.config)))


def _places(home: Home) -> str:
    """Of all directories the service may write ours alone, and those where AMD's and Triton's compilers keep things."""
    user = Path(_owner(home).pw_dir)
    others = (f"-{user / name}" for name in (".cache/miopen", ".config/miopen", ".triton"))
    cuda = _quoted(f"CUDA_CACHE_PATH={home.cache}/cuda")
    words = " ".join(map(_quoted, (*map(str, _ours(home)), *others)))
    return f"ReadWritePaths={words}\nEnvironment={cuda}\n"


def _device_nodes() -> str:
    """NVIDIA's helper makes the device nodes at first use, which a process without new privileges cannot have it do."""
    helper = shutil.which("nvidia-modprobe")
    return f"ExecStartPre=+-{_argument(helper)} -c0 -u\n" if helper else ""


def _owner(home: Home) -> pwd.struct_passwd:
    """Whose installation it is: that user runs it.

    Raises:
        SetupError: it is nobody's whom the system knows.
    """
    try:
        return pwd.getpwuid(home.data.stat().st_uid)
    except KeyError as error:
        raise SetupError(f"{home.data} belongs to no user of this machine", "chown it to one") from error


def _user_directory(environ: Mapping[str, str]) -> Path:
    base = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config")
    return base / "systemd" / "user"


def _commands(*, user: bool) -> tuple[str, ...]:
    how = "systemctl --user" if user else "systemctl"
    return (f"{how} daemon-reload", f"{how} enable --now {UNIT}")


def _notes(home: Home, *, user: bool) -> tuple[str, ...]:
    if user:
        return ("it ends when you log out, unless you say: loginctl enable-linger",)
    if home.data.stat().st_uid == 0:
        return ("it runs as root, whose installation this is; better: install as another user, or --user",)
    return ()


def _make_private(path: Path) -> None:
    """A key file that is there already keeps its mode when it is replaced; nobody else may read it."""
    if path.exists():
        path.chmod(0o600)


def _quoted(text: str) -> str:
    """One word of a list, as it is; what systemd would put something in place of stands for itself."""
    if not text.isprintable():
        raise UsageProblem(f"{text!r} cannot stand in a unit", "take a name without control characters")
    plain = text.replace("%", "%%")
    return plain if re.fullmatch(r"[\w./:@%+=,$-]+", plain) else '"' + re.sub(r'(["\\])', r"\\\1", plain) + '"'


def _argument(text: str) -> str:
    """One word of a command, where a dollar begins a variable too."""
    return _quoted(text).replace("$", "$$")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
