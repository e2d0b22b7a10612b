"""An installation as data: a tuple of steps, made from what an environment needs, where that is had, and the model.

Making a plan changes nothing and fetches nothing. `--dry-run` prints it, `execute` runs it, and the timing report is
the same steps with seconds and bytes. How an environment gets its packages is its back end's to say: see Supply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bootstrap import current, generations, weights
from bootstrap.errors import SetupError
from bootstrap.generations import Generation
from bootstrap.recipe import Recipe
from bootstrap.room import Need
from bootstrap.state import Home
from bootstrap.verify import Depth
from runtime.models import ModelSpec

_QUICKLY_READ = 8e9  # bytes: some six seconds of sha256 on one core


@dataclass(frozen=True)
class Step:
    """Something that will be done.

    Attributes:
        phase: its name in the report.
        title: for people.
        detail: for people who want to know more.
        needs: the disk that it takes at most.
    """

    phase: str
    title: str
    detail: str
    needs: tuple[Need, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class WriteConfigs(Step):
    """The environment's own configuration files, by name."""

    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class AddRuntime(Step):
    """Our own runtime folder, and the lock that the environment was made from."""


@dataclass(frozen=True)
class LearnHashes(Step):
    """The sha256 of model files that nobody published, from the hub that has them: before anything is built."""


@dataclass(frozen=True)
class FetchWeights(Step):
    """The model's files, into the store and from there into the model's directory."""


@dataclass(frozen=True)
class Verify(Step):
    """Files, imports and a tiny generation, in the environment."""

    depth: Depth


@dataclass(frozen=True)
class MakeCurrent(Step):
    """The symlink that says which environment is in use."""


@dataclass(frozen=True)
class Supply:
    """Where the packages of a new environment come from, and the steps that put them there.

    Attributes:
        label: the source, for people, without secrets.
        steps: what is to be done for a generation, but for what all back ends have in common.
    """

    label: str
    steps: Callable[[Generation], Sequence[Step]]


@dataclass(frozen=True)
class Plan:
    """Everything that an install will do, in order."""

    generation: Generation
    recipe: Recipe
    model: ModelSpec
    steps: tuple[Step, ...]

    @property
    def needs(self) -> list[Need]:
        """The disk that all steps take at most."""
        return [need for step in self.steps for need in step.needs]


@dataclass(frozen=True)
class Wishes:
    """What is done although it seems not to be needed."""

    rebuild: bool = False
    verify: bool = False


def make(
    home: Home,
    model: ModelSpec,
    recipe: Recipe,
    supply: Supply | None,
    wishes: Wishes,
    first: Sequence[Step] = (),
) -> Plan:
    """The plan for a model in an environment.

    Args:
        home: where the tool keeps its things.
        model: a row.
        recipe: what the environment is made from.
        supply: where its packages come from; may be None where the environment is there and is kept.
        wishes: what is done in any case.
        first: what is done before anything else: taking in a bundle, which says what the model is made of.
    """
    generation = generations.of(home, recipe, anew=wishes.rebuild)
    steps: list[Step] = []
    if not generation.complete:
        if supply is None:
            raise SetupError("no source was chosen for the packages of a new environment")
        steps += [*supply.steps(generation), AddRuntime("runtime", "add the runtime", f"{generation.app}")]
    if not weights.present(home, model):
        if not first and (unlearnt := weights.unlearnt(home, model)):
            detail = (
                f"{len(unlearnt)} of {len(model.files)} files, from the hub that publishes them; checked ever after"
            )
            steps.insert(0, LearnHashes("learn", f"learn what {model.id} is made of", detail))
        steps.append(_weights(home, model))
    steps = [*first, *steps] if steps else []
    changes = bool(steps)
    if changes or wishes.verify:
        steps.append(_verify(model, wishes, fetched=any(isinstance(step, FetchWeights) for step in steps)))
    if changes or not current.is_current(home, generation):
        steps.append(MakeCurrent("current", "make current", str(home.current)))
    return Plan(generation, recipe, model, tuple(steps))


def _verify(model: ModelSpec, wishes: Wishes, *, fetched: bool) -> Verify:
    """What was fetched a moment ago was read to its end then; else the weights are, unless that takes long."""
    depth = Depth(wishes.verify, wishes.verify or (not fetched and model.weight_bytes <= _QUICKLY_READ))
    read = " and ".join(["packages"] * depth.packages + ["weights"] * depth.weights)
    detail = "files, imports, and a tiny generation (about 20 s the first time)"
    return Verify("checks", "verify", f"{detail}; {read} are read again" if read else detail, depth)


def _weights(home: Home, model: ModelSpec) -> FetchWeights:
    amount = sum(file.about for file in weights.missing(home, model))
    needs = (Need(home.store, amount, "weights"),)
    return FetchWeights("weights", f"fetch {model.id}", weights.told(home, model), needs=needs)
