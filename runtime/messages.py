"""What the server's process and the worker's say to each other over their pipe. Standard library alone.

to the worker     Task: make these videos       Look: how much room is there       Cancel: stop this one
from the worker   PhaseEnded …, Ready           while it starts
                  Step …, Failed …, Made        while it is at a task; after Made the next may come
                  Done | Failed                 for each video that was made, when its file is written
                  Seen                          the answer to Look
"""

from dataclasses import dataclass
from pathlib import Path

from runtime.footprint import Knobs, Residency
from runtime.memory import Room
from runtime.model_spec import Arithmetic
from runtime.options import GenerationRequest

#: Failed.code of a task that was stopped because it was asked for.
CANCELLED = "cancelled"
OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True)
class Item:
    """One video to make: `token` names this attempt at it."""

    token: str
    picture: Path
    out: Path
    request: GenerationRequest


@dataclass(frozen=True)
class Task:
    """Videos to make in one call; their requests differ in prompts and seeds alone."""

    items: tuple[Item, ...]
    knobs: Knobs


@dataclass(frozen=True)
class Look:
    """How much room is there?"""


@dataclass(frozen=True)
class Cancel:
    """Stop the task at its next step, or do not begin it."""

    token: str


@dataclass(frozen=True)
class PhaseEnded:
    """A phase of starting up ended at this monotonic time."""

    name: str
    ended: float


@dataclass(frozen=True)
class Call:
    """What one call of the model took, for what: the seconds of its two phases, and the most bytes beside the weights.

    `peak_bytes` is 0 where it cannot be told.
    """

    request: GenerationRequest
    knobs: Knobs
    batch: int
    denoise: float
    decode: float
    peak_bytes: int


@dataclass(frozen=True)
class Ready:
    """Tasks can come. `call` is the warm-up, if there was one."""

    room: Room
    precision: Arithmetic
    residency: Residency
    call: Call | None = None


@dataclass(frozen=True)
class Seen:
    """The room that there is."""

    room: Room


@dataclass(frozen=True)
class Step:
    """A denoising step ended."""

    step: int
    steps: int


@dataclass(frozen=True)
class Made:
    """The call has ended; None: without any video. The next task may come, while the files are written."""

    call: Call | None


@dataclass(frozen=True)
class Done:
    """The file of a video lies where it was asked for; the seconds that writing it took."""

    token: str
    encode: float


@dataclass(frozen=True)
class Failed:
    """There is no video, and why. `token` is None where it is not about one video: the worker cannot start."""

    token: str | None
    code: str
    message: str
    hint: str


Request = Task | Look | Cancel
Answer = PhaseEnded | Ready | Seen | Step | Made | Done | Failed
