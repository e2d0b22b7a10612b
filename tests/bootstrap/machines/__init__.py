"""Machines of others, as recorded: what their kernels show in /proc, /sys, /dev and /etc, and what their tools print.

Each directory is one machine:

    machine.yaml      what kind of machine, the files and links that its kernel shows, the room on its disks (all and
                      free, in GB), what must be found (`expected`), and the torch build that it must get (`torch`)
    mountinfo         /proc/self/mountinfo
    nvml.json         what NVML answers (played by library/pynvml.py, in the process that asks NVML)
    nvidia-smi.*      what nvidia-smi prints: .csv for our query, .xml for -q -x, .list for -L
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap import machine
from bootstrap.disks import Usage
from bootstrap.machine import Machine

HERE = Path(__file__).resolve().parent
NAMES = tuple(sorted(path.parent.name for path in HERE.glob("*/machine.yaml")))
_VARIABLES = (
    "APPTAINER_CONTAINER",
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "KUBERNETES_SERVICE_HOST",
    "LD_LIBRARY_PATH",
    "RECORDED_NVML",
    "SINGULARITY_CONTAINER",
    "container",
)
_SMI = """#!/bin/sh
case "$*" in
    --query-gpu=*) file={here}/nvidia-smi.csv ;;
    "-q -x") file={here}/nvidia-smi.xml ;;
    -L) file={here}/nvidia-smi.list ;;
    *) file=none ;;
esac
[ -f "$file" ] && exec {cat} "$file"
echo 'Field "compute_cap" is not a valid field to query.'
exit 2
"""
_CAT = shutil.which("cat")
PATIENCE = 1.5  # seconds; a recorded tool that hangs hangs for longer, all others answer at once


def told(name: str) -> dict[str, Any]:
    """The machine.yaml of that machine."""
    found = yaml.safe_load((HERE / name / "machine.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def recorded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, nvml: bool = True) -> Machine:
    """What our detection makes of that machine; without `nvml` as if nvidia-ml-py found no library."""
    facts, root = told(name), tmp_path / name
    tree(name, root)
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    _tools(name, facts.get("tools", {}), bin_directory, root / facts["smi"] if "smi" in facts else bin_directory)
    for variable in _VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in facts.get("environ", {}).items():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.setenv("PATH", str(bin_directory))
    monkeypatch.setenv("PYTHONPATH", str(HERE / "library"))
    if nvml and (HERE / name / "nvml.json").exists():
        monkeypatch.setenv("RECORDED_NVML", str(HERE / name / "nvml.json"))
    room = {
        point: Usage(_bytes(total), _bytes(free), writable=True)
        for point, (total, free) in facts.get("room", {}).items()
    }
    return machine.detect(
        root,
        system=facts.get("system", "Linux"),
        arch=facts.get("arch", "x86_64"),
        usage=room.get,
        patience=PATIENCE,
        with_tools=False,
    )


def tree(name: str, root: Path) -> None:
    """Write what the machine's kernel shows below `root`."""
    facts = told(name)
    for path, text in facts.get("files", {}).items():
        _place(root / path).write_text(f"{text}\n" if text is not None else "", encoding="utf-8")
    for path, target in facts.get("links", {}).items():
        _place(root / path).symlink_to(target)
    if (HERE / name / "mountinfo").exists():
        shutil.copyfile(HERE / name / "mountinfo", _place(root / "proc/self/mountinfo"))
    else:
        _place(root / "proc/self/mountinfo").touch()


def _tools(name: str, tools: dict[str, str], directory: Path, smi: Path) -> None:
    """The machine's programs: shell scripts that print what they printed there. nvidia-smi goes to `smi`."""
    scripts = {directory / tool: f"#!/bin/sh\n{script}\n" for tool, script in tools.items()}
    if (HERE / name / "nvidia-smi.xml").exists():
        scripts[smi / "nvidia-smi"] = _SMI.format(here=HERE / name, cat=_CAT)
    for path, script in scripts.items():
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)


def _place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _bytes(gigabytes: float) -> int:
    return int(gigabytes * 1e9)
