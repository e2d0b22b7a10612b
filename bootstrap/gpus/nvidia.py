"""NVIDIA's GPUs: by NVML, else by nvidia-smi, else by what the kernel shows; and what is wrong with the driver.

nvidia-smi asks the same library as NVML does: where that hangs, it is not asked as well.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from bootstrap import bounded
from bootstrap.gpus import kernel, nvml, smi
from bootstrap.gpus.facts import Gpu, Gpus
from bootstrap.gpus.nvml import Failure

_UNKNOWN_ERROR, _MISMATCH, _NO_LIBRARY = 999, 18, 12  # NVML's numbers, nvidia-smi's exit codes too
_MISMATCHED = "the driver was updated, and the old one still runs: restart the machine"
_CUT_OFF = "NVML fails with an unknown error: start the container anew (a reload of systemd cuts GPUs off)"


def detect(root: Path, container: str | None, patience: float) -> Gpus | None:
    """All that can be learnt of NVIDIA's GPUs; None if there are none. A call that hangs is given up."""
    traces = kernel.traces(root)
    failure = Failure(_NO_LIBRARY, "there is no driver")
    if traces.driver or traces.reachable:
        answer = nvml.ask(root, patience)
        if isinstance(answer, Gpus):
            return _sound(answer)
        failure = answer
    program = smi.find(root)
    if program is not None and not failure.late:
        answer = smi.ask(program, patience)
        if isinstance(answer, Gpus):
            return _sound(answer)
        failure = answer if failure.code == _NO_LIBRARY or answer.late else failure
    listed = bounded.gather({"": partial(kernel.gpus, root, container)}, patience)  # the driver writes those files
    return _by_the_kernel(listed.get("", ()), container, traces, failure)


def _sound(found: Gpus) -> Gpus | None:
    """A driver without any GPU is none; a GPU in MIG mode without an instance cannot be used."""
    return replace(found, gpus=tuple(map(_checked, found.gpus))) if found.gpus else None


def _checked(gpu: Gpu) -> Gpu:
    if gpu.mig and not gpu.instances and gpu.usable:
        return replace(gpu, problem="it is in MIG mode and has no instance: make one with `nvidia-smi mig -cgi … -C`")
    return gpu


def _by_the_kernel(
    gpus: tuple[Gpu, ...], container: str | None, traces: kernel.Traces, failure: Failure
) -> Gpus | None:
    if not gpus:
        return None
    problem = {_MISMATCH: _MISMATCHED, _UNKNOWN_ERROR: _CUT_OFF if container else None}.get(failure.code or 0)
    if problem is not None:
        gpus = tuple(replace(gpu, problem=gpu.problem or problem) for gpu in gpus)
    source = "/proc/driver/nvidia" if traces.driver else "the PCI bus"
    told = failure.late or (traces.driver is not None and any(gpu.usable for gpu in gpus))
    notes = (f"{failure.reason}; what is told of NVIDIA's GPUs comes from {source}",) if told else ()
    return Gpus(gpus, traces.driver, None, source, notes=notes)
