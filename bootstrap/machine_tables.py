"""How a machine is shown: what it is, its GPUs, its disks, its tools, and what a person should know of them.

Made for 80 columns; a wider terminal gives the texts more room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath

from rich.markup import escape
from rich.table import Table

from bootstrap.disks import Disk
from bootstrap.gpus import Gpu, Process
from bootstrap.machine import Machine
from bootstrap.units import size
from mirrors.urls import redact, shown

_SHOWN_PROCESSES = 3


def tables(machine: Machine) -> Iterator[Table]:
    """All that is known of a machine, as tables one below the other."""
    yield _machine(machine)
    if machine.gpus:
        yield _gpus(machine)
    if machine.graphics.notes:
        yield _notes(machine)
    if machine.disks:
        yield _disks(machine)
    if machine.tools:
        yield _tools(machine)


def pip_rows(machine: Machine) -> list[tuple[str, str]]:
    """The pip settings in force, without credentials."""
    pip = machine.pip
    rows = [("index-url", shown(pip.index_url))] if pip.index_url else []
    rows += [("extra-index-url", shown(url)) for url in pip.extra_index_urls]
    rows += [("find-links", shown(link)) for link in pip.find_links]
    rows += [(name, redact(value)) for name, value in (("cert", pip.cert), ("proxy", pip.proxy)) if value]
    return rows + [("trusted-host", f"{host} (never handed on)") for host in pip.trusted_hosts]


def _machine(machine: Machine) -> Table:
    table = _table("This machine", "", "")
    inside = f", in {machine.container}" if machine.container else ""
    table.add_row("system", escape(f"{machine.release}, {machine.arch}{inside}"))
    table.add_row("Python", escape(f"{machine.python} ({machine.python_path})"))
    table.add_row("CPU", escape(f"{machine.cpu}, {machine.cores} cores"))
    table.add_row("memory", f"{size(machine.memory)}, {size(machine.memory_free)} free")
    graphics = machine.graphics
    if graphics.driver:
        cuda = f", CUDA up to {graphics.cuda}" if graphics.cuda else ""
        table.add_row("NVIDIA driver", f"{graphics.driver}{cuda}")
    if graphics.rocm:
        table.add_row("ROCm", graphics.rocm)
    if not machine.gpus:
        table.add_row("GPU", "none found")
    for name, value in machine.proxies:
        table.add_row(name, escape(value))
    for key, value in pip_rows(machine):
        table.add_row(f"pip {key}", escape(value))
    return table


def _gpus(machine: Machine) -> Table:
    table = _table(
        f"\nGPUs[not bold dim]  told by {machine.graphics.source}[/]", "GPU", "memory", "free", "arch", "use"
    )
    for gpu in machine.gpus:
        table.add_row(escape(gpu.name), _memory(gpu.memory or None), _memory(gpu.free), _architecture(gpu), _use(gpu))
        alike = Counter((part.profile, part.memory) for part in gpu.instances)
        for (profile, memory), count in alike.items():
            table.add_row(escape(f"  {count} x MIG {profile}"), _memory(memory), "", "", "one per program")
    return table


def _use(gpu: Gpu) -> str:
    if gpu.problem is not None:
        return (
            f"[dim]{escape(gpu.problem)}[/dim]" if gpu.vendor == "intel" else "[yellow]not usable, see below[/yellow]"
        )
    users = ", ".join(_process(process) for process in gpu.processes[:_SHOWN_PROCESSES])
    more = len(gpu.processes) - _SHOWN_PROCESSES
    return escape(users) + (f" and {more} more" if more > 0 else "")


def _process(process: Process) -> str:
    name = PurePath(process.name).name if process.name else f"pid {process.pid}"
    return f"{name} {_memory(process.memory)}".strip()


def _architecture(gpu: Gpu) -> str:
    return ".".join(map(str, gpu.compute_capability)) if gpu.compute_capability else gpu.target or ""


def _memory(count: int | None) -> str:
    """Memory as GPUs are sold: in powers of 1024."""
    return "" if count is None else f"{count / 2**30:.1f} GiB"


def _notes(machine: Machine) -> Table:
    table = _table("", "")
    for note in machine.graphics.notes:
        table.add_row(f"[yellow]{escape(note)}[/yellow]")
    return table


def _disks(machine: Machine) -> Table:
    table = _table("\nDisks", "mounted at", "kind", "file system", "free", "of", "reads")
    for disk in machine.disks:
        kind = disk.kind + (", removable" if disk.removable else "")
        if disk.problem is not None:
            table.add_row(escape(disk.mount), kind, disk.filesystem, "", "", f"[yellow]{escape(disk.problem)}[/yellow]")
        else:
            speed = f"{size(disk.read_speed)}/s" if disk.read_speed else ""
            table.add_row(escape(disk.mount), kind, _filesystem(disk), size(disk.free), size(disk.total), speed)
    return table


def _filesystem(disk: Disk) -> str:
    return disk.filesystem if disk.writable else f"{disk.filesystem}, not writable"


def _tools(machine: Machine) -> Table:
    table = _table("\nTools", "", "")
    for tool in machine.tools:
        if tool.found:
            table.add_row(tool.name, escape(", ".join(filter(None, (tool.version, tool.note))) or tool.path or ""))
    if missing := ", ".join(tool.name for tool in machine.tools if not tool.found):
        table.add_row("[dim]not found[/dim]", f"[dim]{missing}[/dim]")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        show_header=any(columns),
        pad_edge=False,
        box=None,
    )
    for name in columns:
        right = name in {"memory", "free", "of", "reads"}
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right and name != "reads")
    return table
