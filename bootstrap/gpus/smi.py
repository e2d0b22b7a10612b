"""NVIDIA's GPUs by nvidia-smi, where NVML cannot be asked from Python.

Its XML has everything but the compute capability, which only its CSV has (and only since driver 510); each stands in
for the other where one of them is not understood. In MIG mode the instances' profiles and names come from its list.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

from bootstrap import spawn
from bootstrap.gpus import capabilities
from bootstrap.gpus.facts import Gpu, Gpus, Instance, Process
from bootstrap.gpus.nvml import Failure, address, program

_FIELDS = ("name", "uuid", "pci.bus_id", "memory.total", "memory.free", "compute_cap", "driver_version")
_WSL = "usr/lib/wsl/lib/nvidia-smi"
_INSTANCE = re.compile(r"^\s+MIG (\S+)\s+Device\s+\d+:\s+\(UUID: (\S+)\)")
_UNIT = 2**20
_NOT_UNDERSTOOD = Failure(None, "nvidia-smi was not understood")


def find(root: Path) -> str | None:
    """Where nvidia-smi is: on PATH, or where WSL 2 has it."""
    return shutil.which("nvidia-smi") or (str(root / _WSL) if (root / _WSL).is_file() else None)


def ask(program: str, patience: float) -> Gpus | Failure:
    """What nvidia-smi says; each of its calls is given up after `patience` seconds."""
    with ThreadPoolExecutor(2) as pool:
        rows = pool.submit(
            _said, [program, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"], patience
        )
        log = pool.submit(_said, [program, "-q", "-x"], patience)
        csv, xml = rows.result(), log.result()
    listed = _from_csv(csv) if isinstance(csv, str) else None
    described = _from_xml(xml) if isinstance(xml, str) else None
    if described is None or not described.gpus:
        failure = next((answer for answer in (xml, csv) if isinstance(answer, Failure)), _NOT_UNDERSTOOD)
        return failure if listed is None else replace(listed, cuda=_cuda(program, patience))
    found = _with_capabilities(described, listed)
    return _with_instances(found, program, patience) if any(gpu.mig for gpu in found.gpus) else found


def _said(args: Sequence[str], patience: float) -> str | Failure:
    try:
        done = spawn.ask(args, timeout=patience)
    except TimeoutError:
        return Failure(None, f"nvidia-smi did not answer within {patience:g} s", late=True)
    except spawn.ProgramMissing as error:
        return Failure(None, str(error))
    if done.code == 0:
        return done.output
    return Failure(done.code, " ".join(done.output.split()) or f"exit code {done.code}")


def _cuda(program: str, patience: float) -> str | None:
    """The newest CUDA that the driver runs, from the head of the table that is for people."""
    version = re.search(r"CUDA Version: *([\d.]+)", spawn.probe([program], patience) or "")
    return version[1] if version else None


def _from_csv(listing: str) -> Gpus | None:
    rows = [[field.strip() for field in line.split(",")] for line in listing.splitlines()]
    rows = [row for row in rows if len(row) == len(_FIELDS)]
    gpus = tuple(
        Gpu(
            _told(name) or "NVIDIA GPU",
            "nvidia",
            _mebibytes(total) or 0,
            _mebibytes(free),
            _capability(capability) or capabilities.of(name),
            index=index,
            uuid=_told(uuid),
            bus=address(bus),
        )
        for index, (name, uuid, bus, total, free, capability, _) in enumerate(rows)
    )
    return Gpus(gpus, _told(rows[0][-1]), None, "nvidia-smi") if gpus else None


def _from_xml(log: str) -> Gpus | None:
    # Warnings about a board's memory stand behind the document. It is the driver's own, so it is trusted.
    try:
        root = ET.fromstring(log[: log.find("</nvidia_smi_log>")] + "</nvidia_smi_log>")  # noqa: S314
    except ET.ParseError:
        return None
    gpus = tuple(_gpu(index, node) for index, node in enumerate(root.iter("gpu")))
    return Gpus(gpus, _text(root, "driver_version"), _text(root, "cuda_version"), "nvidia-smi")


def _gpu(index: int, node: ET.Element) -> Gpu:
    name = _text(node, "product_name") or "NVIDIA GPU"
    return Gpu(
        name,
        "nvidia",
        _mebibytes(_text(node, "fb_memory_usage/total")) or 0,
        _mebibytes(_text(node, "fb_memory_usage/free")),
        None,
        index=index,
        uuid=_text(node, "uuid"),
        bus=address(node.get("id")),
        mig=_text(node, "mig_mode/current_mig") == "Enabled",
        instances=tuple(
            Instance(
                "unknown",
                _mebibytes(_text(part, "fb_memory_usage/total")) or 0,
                _mebibytes(_text(part, "fb_memory_usage/free")),
            )
            for part in node.iterfind("mig_devices/mig_device")
        ),
        processes=tuple(
            Process(int(pid), program(_text(process, "process_name")), _mebibytes(_text(process, "used_memory")))
            for process in node.iterfind("processes/process_info")
            if (pid := _text(process, "pid")) is not None and pid.isdecimal()
        ),
    )


def _with_capabilities(found: Gpus, listed: Gpus | None) -> Gpus:
    told = {gpu.uuid: gpu.compute_capability for gpu in (listed.gpus if listed else ())}
    gpus = (replace(gpu, compute_capability=told.get(gpu.uuid) or capabilities.of(gpu.name)) for gpu in found.gpus)
    return replace(found, gpus=tuple(gpus))


def _with_instances(found: Gpus, program: str, patience: float) -> Gpus:
    """The instances with their profiles and names, if the list has as many of them as the XML."""
    listing = _said([program, "-L"], patience)
    if not isinstance(listing, str):
        return found
    named: dict[str, list[tuple[str, str]]] = {}
    uuid = ""
    for line in listing.splitlines():
        if (instance := _INSTANCE.match(line)) is not None:
            named.setdefault(uuid, []).append((instance[1], instance[2]))
        elif (board := re.search(r"\(UUID: (GPU-\S+)\)", line)) is not None:
            uuid = board[1]
    return replace(found, gpus=tuple(_name_instances(gpu, named.get(gpu.uuid or "", [])) for gpu in found.gpus))


def _name_instances(gpu: Gpu, named: Sequence[tuple[str, str]]) -> Gpu:
    if len(named) != len(gpu.instances):
        return gpu
    parts = zip(gpu.instances, named, strict=True)
    return replace(gpu, instances=tuple(replace(part, profile=profile, uuid=uuid) for part, (profile, uuid) in parts))


def _text(node: ET.Element, path: str) -> str | None:
    return _told((node.findtext(path) or "").strip())


def _told(value: str) -> str | None:
    """What stands in a field; None for "N/A", "ERR!", "[Insufficient Permissions]" and the like."""
    return None if value in {"", "N/A", "ERR!"} or value.startswith("[") else value


def _mebibytes(value: str | None) -> int | None:
    number = (value or "").removesuffix("MiB").strip()
    return int(number) * _UNIT if number.isdecimal() else None


def _capability(value: str) -> tuple[int, int] | None:
    major, _, minor = value.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None
