"""What a call will take of memory and time on the worker as it is: as measured on this machine, else as predicted.

Keeps what the jobs show. Knows nothing of jobs.
"""

from collections.abc import Sequence
from functools import partial

from runtime import footprint, memory
from runtime.footprint import Knobs
from runtime.measurements import Expected, Kind, Measurements
from runtime.memory import Room, Verdict
from runtime.messages import Call
from runtime.model_spec import ModelSpec
from runtime.options import GenerationRequest
from runtime.supervisor import Supervisor


class Forecast:
    """For the worker of one supervisor. From any thread."""

    def __init__(self, measurements: Measurements, supervisor: Supervisor) -> None:
        self._measurements = measurements
        self._supervisor = supervisor

    def verdict(self, spec: ModelSpec, requests: Sequence[GenerationRequest], room: Room) -> Verdict:
        """Whether one call for all the requests, which are of one shape, fits, and how it is made."""
        supervisor = self._supervisor
        return memory.decide(
            spec,
            supervisor.precision_of(spec),
            requests[0],
            room,
            batch=len(requests),
            learnt=partial(self._measurements.peak, self._kind(spec)),
            loaded=supervisor.state.residency if spec.id == supervisor.spec.id else None,
        )

    def expected(self, spec: ModelSpec, request: GenerationRequest) -> Expected | None:
        """How long such a video takes, once it is its turn; None: not known yet."""
        return self._measurements.expected(self._kind(spec), request) if self._supervisor.state.device else None

    def learn(self, call: Call, encode: float | None = None) -> None:
        """Keeps what a call took, and the seconds that writing a file of it took."""
        self._measurements.add(self._kind(self._supervisor.spec), call, encode)

    def ran_out(self, request: GenerationRequest, batch: int, knobs: Knobs, room: Room) -> None:
        """Keeps that a call took more than there was, so that the next one uses less, or is told not to fit."""
        supervisor = self._supervisor
        beside = room.available - footprint.resident(
            supervisor.spec, supervisor.precision_of(supervisor.spec), supervisor.state.residency
        )
        self._measurements.ran_out(self._kind(supervisor.spec), request, batch, knobs, beside)

    def _kind(self, spec: ModelSpec) -> Kind:
        state = self._supervisor.state
        return Kind(state.device or "", spec.id, f"{self._supervisor.precision_of(spec)} {state.residency}")
