"""The detect command: the machine, the mirrors as seen from it, and what is recommended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from bootstrap import disks, machine, machine_tables, placement, recipe, recommend, sourcing
from bootstrap.console import Console
from bootstrap.machine import Machine
from bootstrap.placement import Placement
from bootstrap.recommend import Recommendation
from bootstrap.state import Home
from mirrors import choose, urls
from mirrors.errors import NoMirror
from mirrors.probe import Measurement


@dataclass(frozen=True)
class Detected:
    """What was found. `measurements` is empty where nothing was measured; `mirror` is the best one, if there is any."""

    machine: Machine
    measurements: tuple[Measurement, ...]
    mirror: str | None
    advice: Recommendation
    mirror_reason: str
    placement: Placement


def detect(home: Home, *, offline: bool, console: Console) -> Detected:
    """Probe the machine and, unless `offline`, every package mirror that is known. Changes nothing."""
    with console.working("detect the machine"):
        here = machine.detect()
    with console.working("measure the disks"):
        here = replace(here, disks=disks.measured(here.disks))
    advice = recommend.recommend(here)
    build = advice.torch.build
    room = build.index_bytes + build.torch_bytes + build.installed_bytes
    placed = placement.choose(home, here.disks, room, measure=lambda measured: measured)
    if offline:
        return Detected(here, (), None, advice, "not measured (--offline)", placed)
    pins = recipe.shipped_lock(build).pins(build.pythons[0])
    with console.working("measure the mirrors"):
        candidates = sourcing.candidates("auto", here.pip, home.user_mirrors)
        measurements = tuple(sourcing.measure(candidates, pins, sourcing.http_settings(here.pip)))
    try:
        choice = choose.choose(measurements, build.index_bytes)
    except NoMirror:
        return Detected(here, measurements, None, advice, "none can be used from here", placed)
    reason = f"{choice.mirror.id} ({choice.reason})"
    return Detected(here, measurements, choice.mirror.id, advice, reason, placed)


def as_document(found: Detected) -> dict[str, Any]:
    """The findings as data, for programs; without credentials."""
    document = asdict(found.machine)
    document["pip"] = [{"key": key, "value": value} for key, value in machine_tables.pip_rows(found.machine)]
    document["pip_sources"] = found.machine.pip.sources
    torch, tier = found.advice.torch, found.advice.tier
    return {
        "machine": document,
        "mirrors": [
            {
                "id": m.mirror.id,
                "url": urls.shown(m.mirror.url),
                "latency_s": m.latency,
                "bytes_per_s": m.rate,
                "verdict": m.verdict,
                "reason": m.reason,
            }
            for m in found.measurements
        ],
        "recommended": {
            "torch": {"build": torch.build.id, "reason": torch.reason},
            "mirror": found.mirror,
            "placement": {
                "data": str(found.placement.home.data),
                "cache": str(found.placement.home.cache),
                "reason": found.placement.reason,
            },
            "tier": {**asdict(tier), "reason": found.advice.reason},
        },
    }
