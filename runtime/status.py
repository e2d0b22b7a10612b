"""How the dispatcher is set up, and what it tells of itself and of the jobs. Standard library alone."""

from dataclasses import dataclass, field

from runtime.footprint import Residency
from runtime.memory import Room
from runtime.model_spec import Arithmetic
from runtime.timing import Phase


@dataclass(frozen=True)
class Settings:
    """How the dispatcher works.

    Attributes:
        most_together: Waiting jobs of one shape that are made in one call. More than one was not measured to gain
            anything yet.
        hang_seconds: A worker that says nothing for so long while it is at work is replaced. The longest silence is a
            single step, or the decoding.
        warm_up: Whether a worker makes a small video before it is called ready.
    """

    most_together: int = 1
    hang_seconds: float = 1800.0
    warm_up: bool = True


@dataclass(frozen=True)
class State:
    """How the server is. `phases` are those of the first start, the server's own before the worker's.

    Attributes:
        ready: Whether the worker takes jobs.
        precision: What the model is computed in.
        residency: How it is loaded.
        error: Why there is no worker.
        restarts: How often a worker died.
        reloading: Whether another worker is being made ready, by the name of its model.
        reload_error: Why the last reload failed.
        room: The memory that the worker had when it was last asked.
        server_phases: Until it listened.
        worker_phases: From there until ready.
    """

    ready: bool = False
    precision: Arithmetic | None = None
    residency: Residency = field(default_factory=Residency)
    error: str | None = None
    restarts: int = 0
    reloading: str | None = None
    reload_error: str | None = None
    room: Room | None = None
    server_phases: tuple[Phase, ...] = ()
    worker_phases: tuple[Phase, ...] = ()

    @property
    def device(self) -> str | None:
        """Its name; None until there is a worker."""
        return self.room.name if self.room else None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All of them, in order."""
        return self.server_phases + self.worker_phases


@dataclass(frozen=True)
class Live:
    """How far a job is; `remaining` seconds are None until they can be told."""

    step: int
    steps: int
    remaining: float | None = None
