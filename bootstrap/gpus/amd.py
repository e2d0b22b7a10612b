"""AMD's GPUs from the kernel's own files: amdgpu's memory counters, and the topology that ROCm reads (KFD)."""

from __future__ import annotations

from pathlib import Path

from bootstrap.gpus import pci
from bootstrap.gpus.facts import Gpu, Gpus
from bootstrap.small_files import text

_NO_DRIVER = "an AMD GPU is there, its driver (amdgpu) is not"


def detect(root: Path) -> Gpus | None:
    """All that the kernel shows; None if there are none."""
    targets = _targets(root)
    cards = sorted((root / "sys/class/drm").glob("card[0-9]*/device"))
    gpus = [_card(root, card, targets) for card in cards if text(card / "vendor") == f"0x{pci.AMD:04x}"]
    driven = {gpu.bus for gpu in gpus}
    gpus += [
        Gpu(pci.name(root, device), "amd", 0, None, None, bus=device.bus, problem=_NO_DRIVER)
        for device in pci.devices(root, pci.AMD)
        if device.bus not in driven and device.driver != "amdgpu"
    ]
    rocm = text(root / "opt/rocm/.info/version") or None
    return Gpus(tuple(gpus), source="/sys/class/drm", rocm=rocm) if gpus else None


def _card(root: Path, card: Path, targets: dict[int, str]) -> Gpu:
    total, used = text(card / "mem_info_vram_total"), text(card / "mem_info_vram_used")
    bus = card.resolve().name if ":" in card.resolve().name else None
    device = pci.Device(bus or "", pci.AMD, int(text(card / "device") or "0", 16), None)
    minors = [int(node.name[7:]) for node in (card / "drm").glob("renderD*")]
    return Gpu(
        text(card / "product_name") or pci.name(root, device),
        "amd",
        int(total) if total.isdigit() else 0,
        int(total) - int(used) if total.isdigit() and used.isdigit() else None,
        None,
        bus=bus,
        target=next((targets[minor] for minor in minors if minor in targets), None),
    )


def _targets(root: Path) -> dict[int, str]:
    """The architecture of each GPU by the number of its render node, such as 128: gfx942."""
    found = {}
    for path in (root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties"):
        rows = (line.split() for line in text(path).splitlines())
        facts = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
        if version := facts.get("gfx_target_version", 0):
            major, minor, step = version // 10000, version // 100 % 100, version % 100
            found[facts.get("drm_render_minor", -1)] = f"gfx{major}{minor:x}{step:x}"
    return found
