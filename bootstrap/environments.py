"""The env commands: which environments there are, going back to one, verifying and removing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bootstrap import alone, current, generations, room, usage
from bootstrap import verify as verifying
from bootstrap.console import Console
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.generate import installed_model
from bootstrap.generations import Generation
from bootstrap.recorder import Recorder
from bootstrap.state import Home
from bootstrap.usage import Process
from bootstrap.verify import Depth


@dataclass(frozen=True)
class Environment:
    """A generation, what it is to us, and what runs in it."""

    generation: Generation
    state: Literal["current", "previous", ""]
    processes: tuple[Process, ...] = field(default=())


@dataclass(frozen=True)
class Moved:
    """From which environment to which, and what still runs in the one that was left."""

    before: Generation | None
    now: Generation
    processes: tuple[Process, ...]


@dataclass(frozen=True)
class Verified:
    """An environment that is whole, with which model, on which device, and how long it took to find out."""

    name: str
    model: str
    device: str
    versions: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class Removed:
    """What is gone, and the bytes of disk that this gave back."""

    name: str
    room: int


def listed(home: Home) -> list[Environment]:
    """All environments that are whole, the oldest first. Changes nothing."""
    before = current.previous(home)
    return [Environment(one, _state(home, one, before), usage.processes(one.path)) for one in generations.every(home)]


def as_document(environments: Sequence[Environment]) -> list[dict[str, Any]]:
    """The environments as data, for programs."""
    return [
        {
            "name": it.generation.name,
            **asdict(it.generation),
            "state": it.state or None,
            "processes": [asdict(process) for process in it.processes],
        }
        for it in environments
    ]


def named(home: Home, name: str) -> Generation:
    """The environment of that name; a part of it does where only one has it.

    Raises:
        UsageProblem: there is none, or there are several.
    """
    here = generations.every(home)
    found = [one for one in here if one.name == name] or [one for one in here if name and name in one.name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.name for one in (found or here)) or "nothing is installed"
    how = "fits several environments" if found else "is no environment"
    raise UsageProblem(f"{name!r} {how}", f"there are: {names}")


def rollback(home: Home, name: str | None) -> Moved:
    """Make current what was current before, or the environment of that name.

    Raises:
        UsageProblem: there is no environment of that name.
        SetupError: there is nothing to go back to, it is damaged, or an installation is under way.
    """
    with alone.undisturbed(home):
        before = generations.find(home.current.resolve()) if home.current.is_symlink() else None
        if name is None:
            now = current.go_back(home)
        else:
            now = named(home, name)
            generations.require_intact(now)
            current.make_current(home, now)
    still = usage.processes(before.path) if before is not None and before.path != now.path else ()
    return Moved(before, now, still)


def verify(home: Home, name: str | None, model_id: str | None, console: Console) -> Verified:
    """Verify an environment with a model, by default the current one with the model that was deployed last.

    Raises:
        UsageProblem: there is no such environment. UnknownModel: there is no such model.
        SetupError: the model is not installed; or something is damaged: says what, and what to do.
    """
    generation = current.current(home) if name is None else named(home, name)
    model, recorder = installed_model(home, model_id), Recorder("verify")
    generations.require_intact(generation)
    with console.working(f"verify {generation.name}") as task:
        found = verifying.verify(generation, home, model, recorder, task, Depth(packages=True, weights=True))
    generations.finish(generation)
    return Verified(generation.name, model.id, str(found["device"]), found["versions"], recorder.elapsed)


def remove(home: Home, names: Sequence[str], console: Console) -> list[Removed]:
    """Remove environments. All are looked at before the first one goes.

    Raises:
        UsageProblem: there is no such environment, or it is the current one.
        SetupError: something runs in one of them, or an installation is under way.
    """
    with alone.undisturbed(home):
        return [_removed(one, console) for one in removable(home, names)]


def removable(home: Home, names: Sequence[str]) -> list[Generation]:
    """The environments of those names, if all of them may be removed.

    Raises:
        UsageProblem: there is no such environment, or it is the current one.
        SetupError: something runs in one of them.
    """
    found = list(dict.fromkeys(named(home, name) for name in names))
    for one in found:
        _require_unused(home, one)
    return found


def _removed(generation: Generation, console: Console) -> Removed:
    with console.working(f"remove {generation.name}"):
        gives = room.given_back(generation.path)
        generations.remove(generation)
    return Removed(generation.name, gives)


def _require_unused(home: Home, generation: Generation) -> None:
    if current.is_current(home, generation):
        raise UsageProblem(
            f"{generation.name} is the current environment",
            "install or go back to another one first: i2v-setup env rollback",
        )
    processes = usage.processes(generation.path)
    if processes:
        runs = ", ".join(map(str, processes))
        raise SetupError(f"something runs in {generation.name}: {runs}", "end it, and remove the environment then")


def _state(home: Home, one: Generation, before: Generation | None) -> Literal["current", "previous", ""]:
    if current.is_current(home, one):
        return "current"
    return "previous" if before is not None and before.path == one.path else ""
