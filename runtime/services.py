"""What the HTTP handlers work with, and how they come by it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from runtime.dispatcher import Dispatcher
from runtime.guard import Refusal
from runtime.jobs import Job, JobStore
from runtime.metrics import Metrics
from runtime.models import ModelSpec


@dataclass(frozen=True)
class Services:
    """The rooms behind the HTTP interface.

    Attributes:
        setup: How the server was started, for the summary. Never a key.
        errors: The last lines of the log about errors.
    """

    store: JobStore
    dispatcher: Dispatcher
    metrics: Metrics
    setup: Mapping[str, object] = field(default_factory=dict)
    errors: Callable[[], Sequence[str]] = tuple
    decoding: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))  # bounds the memory it takes

    @property
    def spec(self) -> ModelSpec:
        """The model that new videos are for."""
        return self.dispatcher.accepted

    def known(self, video_id: str) -> Job:
        """The job of this id.

        Raises:
            Refusal: There is none.
        """
        job = self.store.get(video_id)
        if job is None:
            raise Refusal(404, "not_found", "there is no video of this id")
        return job


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Use = Annotated[Services, Depends(_services)]
