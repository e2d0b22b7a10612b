"""NVIDIA's GPUs by NVML, asked in a child process that is given up when it takes too long."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap import spawn
from bootstrap.gpus import capabilities
from bootstrap.gpus.facts import Gpu, Gpus, Instance, Process

_CHILD = Path(__file__).with_name("nvml_child.py")
_WSL = "usr/lib/wsl/lib"  # where WSL 2 has the libraries of Windows' driver
_LOST = "the driver has lost it: restart the machine"


@dataclass(frozen=True)
class Failure:
    """Why NVML gave nothing: its error number and text, or that it did not answer in time."""

    code: int | None
    reason: str
    late: bool = False


def ask(root: Path, patience: float) -> Gpus | Failure:
    """What NVML says within `patience` seconds. `root` is where WSL's libraries are looked for."""
    paths = [path for path in (os.environ.get("LD_LIBRARY_PATH"), str(root / _WSL)) if path]
    env = {"LD_LIBRARY_PATH": os.pathsep.join(paths)} if (root / _WSL).is_dir() else {}
    try:
        done = spawn.ask([sys.executable, str(_CHILD)], timeout=patience, env=env)
        found = json.loads(done.output)
    except TimeoutError:
        return Failure(None, f"NVML did not answer within {patience:g} s", late=True)
    except (spawn.ProgramMissing, ValueError):
        return Failure(None, "NVML could not be asked")
    if "error" in found:
        return Failure(int(found["code"]), str(found["error"]))
    cuda = found["cuda"]
    version = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
    return Gpus(tuple(map(_gpu, found["gpus"])), found["driver"], version, "NVML")


def _gpu(row: dict[str, Any]) -> Gpu:
    if row.get("lost"):
        return Gpu("NVIDIA GPU", "nvidia", 0, None, None, index=row["index"], problem=_LOST)
    name = row["name"] or "NVIDIA GPU"
    capability = row["capability"]
    return Gpu(
        name,
        "nvidia",
        row["memory"] or 0,
        row["free"],
        (capability[0], capability[1]) if capability else capabilities.of(name),
        index=row["index"],
        uuid=row["uuid"],
        bus=address(row["bus"]),
        mig=row["mig"],
        instances=tuple(
            Instance(profile(part["name"]), part["memory"] or 0, part["free"], part["uuid"])
            for part in row["instances"]
        ),
        processes=tuple(
            Process(process["pid"], program(process["name"]), process["memory"]) for process in row["processes"]
        ),
    )


def profile(name: str | None) -> str:
    """The profile in an instance's name, such as "NVIDIA A100-SXM4-80GB MIG 1g.10gb"."""
    return (name or "").rpartition("MIG ")[2] or "unknown"


def program(command: str | None) -> str | None:
    """The program of a command line, without its arguments: they are nobody's business, and may hold a secret."""
    return command.split()[0] if command and command.strip() else None


def address(bus: str | None) -> str | None:
    """A PCI address as the kernel writes it: NVIDIA's tools have eight digits for the domain, and capitals."""
    if not bus:
        return None
    domain, _, rest = bus.lower().partition(":")
    return f"{domain[-4:]}:{rest}"
