"""The GPUs that the PCI bus shows, driver or not: from /sys, which needs no tool and no rights.

A container usually sees its host's whole bus, so what is here need not be what may be used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bootstrap.small_files import text

NVIDIA, AMD, INTEL = 0x10DE, 0x1002, 0x8086  # PCI vendor ids
_CLASSES = ("0x03", "0x12")  # displays, and accelerators without one
_LISTS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")  # where distributions keep the names
_VENDORS = {NVIDIA: "NVIDIA", AMD: "AMD", INTEL: "Intel"}


@dataclass(frozen=True)
class Device:
    """A GPU on the bus: its address, its ids, and the kernel driver that has it, if any."""

    bus: str
    vendor: int
    device: int
    driver: str | None


def devices(root: Path, vendor: int) -> tuple[Device, ...]:
    """The GPUs of that vendor, in the order of their addresses."""
    found = []
    for path in sorted((root / "sys/bus/pci/devices").glob("*")):
        if text(path / "vendor") == f"0x{vendor:04x}" and text(path / "class").startswith(_CLASSES):
            driver = path / "driver"
            owner = driver.resolve().name if driver.is_symlink() else None
            found.append(Device(path.name, vendor, int(text(path / "device") or "0", 16), owner))
    return tuple(found)


def name(root: Path, device: Device) -> str:
    """What the PCI list of this system calls it; its numbers where there is no list, or none that new."""
    number = f"{_VENDORS[device.vendor]} GPU (PCI {device.vendor:04x}:{device.device:04x})"
    for path in _LISTS:
        section = re.search(rf"^{device.vendor:04x}  .*\n((?:[\t#].*\n)*)", text(root / path) + "\n", re.MULTILINE)
        row = re.search(rf"^\t{device.device:04x}  (.+)$", section[1], re.MULTILINE) if section else None
        if row:
            product = re.search(r"\[(.+?)\]", row[1])
            return f"{_VENDORS[device.vendor]} {product[1] if product else row[1]}"
    return number
