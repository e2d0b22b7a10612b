"""Which of NVIDIA's GPUs CUDA will show to programs: CUDA_VISIBLE_DEVICES, read as CUDA reads it.

Names and numbers up to the first that fits nothing. Numbers count in CUDA's own order, which is "fastest first" unless
CUDA_DEVICE_ORDER says PCI_BUS_ID; what is fastest is guessed from the compute capability, as NVML does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bootstrap.gpus.facts import Gpu, Instance

NAME = "CUDA_VISIBLE_DEVICES"


def apply(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The GPUs, those with a `problem` that the variable hides; of a cut one only the instances that it names."""
    value = environ.get(NAME)
    if value is None:
        return tuple(gpus)
    chosen = _chosen(gpus, value, environ.get("CUDA_DEVICE_ORDER", ""))
    return tuple(_as_seen(gpu, chosen.get(place), value) for place, gpu in enumerate(gpus))


def _chosen(gpus: Sequence[Gpu], value: str, order: str) -> dict[int, tuple[Instance, ...]]:
    """The places of those that the variable shows, each with its visible instances."""
    places = list(range(len(gpus)))
    if order != "PCI_BUS_ID":
        places.sort(key=lambda place: gpus[place].compute_capability or (0, 0), reverse=True)
    chosen: dict[int, tuple[Instance, ...]] = {}
    for token in (part.strip() for part in value.split(",")):
        if token.isdecimal() and int(token) < len(places):
            place = places[int(token)]
            chosen.setdefault(place, gpus[place].instances)
            continue
        named = [place for place in places if token.startswith("GPU-") and (gpus[place].uuid or "").startswith(token)]
        parts = {
            place: tuple(part for part in gpus[place].instances if token.startswith("MIG-") and part.uuid == token)
            for place in places
        }
        cut = [place for place in places if parts[place]]
        if len(named) == 1:
            chosen.setdefault(named[0], gpus[named[0]].instances)
        elif cut:
            chosen[cut[0]] = (*chosen.get(cut[0], ()), *parts[cut[0]])
        else:
            break
    return chosen


def _as_seen(gpu: Gpu, instances: tuple[Instance, ...] | None, value: str) -> Gpu:
    if instances is None:
        return replace(gpu, problem=gpu.problem or f"hidden by {NAME}={value!r}")
    return replace(gpu, instances=instances)
