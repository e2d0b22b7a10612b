"""Which build of PyTorch a machine gets: the driver, and what every GPU that can be used needs, decide.

Knows nothing of which indexes have a build: that is found out with the first pick, then the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bootstrap.gpus import Gpu
from bootstrap.machine import Machine
from bootstrap.torch_builds.rows import BUILDS, Capability, Platform, TorchBuild, Version, find


@dataclass(frozen=True)
class Pick:
    """A build for a machine, and why.

    Attributes:
        build: the row.
        reason: why this one, or, of the CPU build, why no other: a clause for people.
        loud: the machine has a GPU that this build will not use.
        advice: what would help then; empty where nothing is known to.
        left_out: what this build cannot use, one clause each.
    """

    build: TorchBuild
    reason: str
    loud: bool = False
    advice: str = ""
    left_out: tuple[str, ...] = field(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person must know before this build is installed."""
        if not self.loud:
            return self.left_out
        help_ = f"; {self.advice}" if self.advice else ""
        return (f"{self.reason}: the CPU build is used, which is very slow{help_}", *self.left_out)


def pick(machine: Machine) -> Pick:
    """The best build for the machine."""
    return picks(machine)[0]


def picks(machine: Machine) -> tuple[Pick, ...]:
    """The builds that run on the machine, best first; the last one needs no GPU.

    First come those that all usable GPUs can run, newest first, then those that leave some out, by the memory of those
    that they use.
    """
    if machine.system == "Darwin":
        return (Pick(find("mps"), "an Apple machine"),)
    gpus = [gpu for gpu in machine.gpus if gpu.usable]
    nvidia = [gpu for gpu in gpus if gpu.vendor == "nvidia"]
    amd = [gpu for gpu in gpus if gpu.vendor == "amd"]
    trials = [_try(build, machine, nvidia, amd) for build in BUILDS if _for_gpus(build)]
    good = [trial for trial in trials if trial.used]
    good.sort(
        key=lambda trial: (bool(trial.without), -sum(gpu.usable_memory for gpu in trial.used) * bool(trial.without))
    )
    refused = [trial.refusal for trial in trials if not trial.used and trial.refusal]
    return (*(_found(trial, machine, refused) for trial in good), _cpu(machine, nvidia, good, refused))


def asked(machine: Machine, build_id: str) -> Pick:
    """The build that was asked for by name, with a warning where this machine's GPUs cannot run it.

    Raises:
        UsageProblem: there is no such build.
    """
    build = find(build_id)
    if not _for_gpus(build):
        return Pick(build, "as asked")
    nvidia, amd = ([gpu for gpu in machine.gpus if gpu.usable and gpu.vendor == name] for name in ("nvidia", "amd"))
    trial = _try(build, machine, nvidia, amd)
    if trial.used:
        return Pick(build, "as asked", left_out=trial.without)
    reason = trial.refusal or f"no GPU that {build.id} is for was found"
    return Pick(build, "as asked", left_out=(f"{reason}: torch will run on the CPU here, if at all",))


@dataclass(frozen=True)
class _Trial:
    """What came of trying a build on a machine: the GPUs that can run it, and why others, or all, cannot."""

    build: TorchBuild
    used: tuple[Gpu, ...] = ()
    without: tuple[str, ...] = ()
    refusal: str = ""


def _for_gpus(build: TorchBuild) -> bool:
    return build.min_driver is not None or any(platform.targets for platform in build.platforms)


def _try(build: TorchBuild, machine: Machine, nvidia: Sequence[Gpu], amd: Sequence[Gpu]) -> _Trial:
    gpus = nvidia if build.min_driver is not None else amd
    platform = build.platform(machine.system, machine.arch)
    if not gpus or platform is None:
        return _Trial(build, refusal=f"{build.id} is not for {machine.system} on {machine.arch}" if gpus else "")
    driver = machine.graphics.driver
    if build.min_driver is not None and _version(driver or "0") < build.min_driver:
        told = f"this one is {driver}" if driver else "there is none"
        return _Trial(build, refusal=f"{build.id} needs driver {_text(build.min_driver)}, {told}")
    used = tuple(gpu for gpu in gpus if _runs(platform, gpu))
    without = tuple(_lacks(build, gpu) for gpu in gpus if gpu not in used)
    return _Trial(build, used, without) if used else _Trial(build, refusal=" and ".join(dict.fromkeys(without)))


def _runs(platform: Platform, gpu: Gpu) -> bool:
    return gpu.target in platform.targets if gpu.vendor == "amd" else platform.runs(gpu.compute_capability)


def _lacks(build: TorchBuild, gpu: Gpu) -> str:
    what = gpu.target or "an unknown architecture"
    if gpu.vendor == "nvidia" and gpu.compute_capability:
        what = f"compute capability {_text(gpu.compute_capability)}"
    return f"{build.id} has no code for {gpu.name} ({what})"


def _found(trial: _Trial, machine: Machine, refused: Sequence[str]) -> Pick:
    names = " and ".join(dict.fromkeys(gpu.name for gpu in trial.used))
    reason = names
    if trial.build.min_driver is not None:
        reason = f"driver {machine.graphics.driver}, {_least(trial.used)}"
    better = "; ".join(refused[:1])
    return Pick(trial.build, f"{reason}; {better}" if better else reason, left_out=trial.without)


def _least(gpus: Sequence[Gpu]) -> str:
    known = [gpu.compute_capability for gpu in gpus if gpu.compute_capability]
    return f"compute capability {_text(min(known))}" if known else "a GPU that does not tell its compute capability"


def _cpu(machine: Machine, nvidia: Sequence[Gpu], good: Sequence[_Trial], refused: Sequence[str]) -> Pick:
    cpu = find("cpu")
    seen = [gpu for gpu in machine.gpus if gpu.vendor != "apple"]
    if not seen:
        return Pick(cpu, "no GPU found")
    if good:  # whoever comes here could not have them
        reasons = [f"{' or '.join(trial.build.id for trial in good)} for the GPU cannot be had"]
    else:
        reasons = [*refused] or [f"{gpu.name}: {gpu.problem or 'not supported'}" for gpu in seen]
    advice = "" if good else _advice(machine, nvidia)
    return Pick(cpu, "; ".join(dict.fromkeys(reasons)), loud=True, advice=advice)


def _advice(machine: Machine, nvidia: Sequence[Gpu]) -> str:
    """The driver with which the best build would run."""
    driver = _version(machine.graphics.driver or "0")
    for build in BUILDS:
        platform = build.platform(machine.system, machine.arch)
        if nvidia and build.min_driver and platform and all(platform.runs(gpu.compute_capability) for gpu in nvidia):
            return (
                f"update the NVIDIA driver to {_text(build.min_driver)} or newer" if driver < build.min_driver else ""
            )
    return ""


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _text(version: Version | Capability) -> str:
    return ".".join(map(str, version))
