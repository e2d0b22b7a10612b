"""What clients read of jobs and of errors: the shapes of the answers, as the OpenAPI description has them.

The first part of `Video` is what clients of the video API read, the second what only ours read. Knows nothing of HTTP.
"""

from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from runtime.job import Job
from runtime.services import Services
from runtime.status import Live

_ERROR: dict[str, JsonValue] = {
    "error": {"code": "queue_full", "message": "5 videos are waiting already: try again later"}
}
_VIDEO: dict[str, JsonValue] = {
    "id": "video_5f1c0b7e9a3d4c2f8e6b1a0d9c8b7a65",
    "object": "video",
    "model": "i2vgen-xl",
    "status": "in_progress",
    "progress": 42,
    "created_at": 1795852800,
    "completed_at": None,
    "expires_at": None,
    "size": "512x512",
    "seconds": "2",
    "prompt": "clouds drift over the temple",
    "error": None,
    "remixed_from_video_id": None,
    "seed": 7,
    "settings": {"width": 512, "height": 512, "num_frames": 16, "num_inference_steps": 40, "fps": 8},
    "warnings": [],
    "attempts": 1,
    "jobs_ahead": 0,
    "step": 17,
    "steps": 40,
    "remaining_s": 12.5,
    "inference_time_s": None,
    "stage_durations": {"queue": 0.2},
}


class Why(BaseModel):
    """What went wrong: a code for programs and a message for people."""

    code: str
    message: str


class Failure(BaseModel):
    """Every error has this shape."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ERROR]})

    error: Why


class Video(BaseModel):
    """A video, or what is to become one.

    Attributes:
        status: A cancelled one has failed, with the code "cancelled".
        progress: Of 100, which is for what can be downloaded.
        created_at: Seconds since 1970, as are `completed_at` and `expires_at`.
        seconds: The length of the video.
        settings: All that decides it, except the picture and the model.
        attempts: How often it was begun; three at most.
        jobs_ahead: How many are made before it.
        remaining_s: Of the denoising, once that can be told.
        stage_durations: Seconds in the queue, of denoising, decoding and writing the file.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_VIDEO]})

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    size: str
    seconds: str
    prompt: str
    error: Why | None
    remixed_from_video_id: None = None

    seed: int
    settings: dict[str, Any]
    warnings: list[str]
    attempts: int
    jobs_ahead: int
    step: int
    steps: int
    remaining_s: float | None
    inference_time_s: float | None
    stage_durations: dict[str, float]


class Videos(BaseModel):
    """A page of the list."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    """The video is no more."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def view(job: Job, services: Services) -> Video:
    """A job as clients read it. Looks into the store, so not on the event loop."""
    live, expires, wanted = services.dispatcher.live(job), services.store.expires_at(job), job.request
    return Video(
        id=job.id,
        model=job.model,
        status=job.status,
        progress=100 if job.status == "completed" else _percent(live),
        created_at=int(job.created_at),
        completed_at=int(job.completed_at) if job.completed_at else None,
        expires_at=int(expires) if expires else None,
        size=f"{wanted.width}x{wanted.height}",
        seconds=f"{wanted.num_frames / wanted.fps:g}",
        prompt=wanted.prompt,
        error=Why(code=job.error_code, message=job.error_message or "") if job.error_code else None,
        seed=wanted.seed,
        settings=asdict(wanted),
        warnings=list(wanted.warnings_for(services.spec)),
        attempts=job.attempts,
        jobs_ahead=services.store.ahead_of(job) if job.status == "queued" else 0,
        step=live.step if live else 0,
        steps=live.steps if live else wanted.steps_of(services.spec),
        remaining_s=round(live.remaining, 1) if live and live.remaining is not None else None,
        inference_time_s=round(sum(job.seconds.values()), 3) if job.seconds else None,
        stage_durations=_stages(job),
    )


def _percent(live: Live | None) -> int:
    return min(99, 100 * live.step // live.steps) if live and live.steps else 0


def _stages(job: Job) -> dict[str, float]:
    waited = {"queue": max(0.0, job.started_at - job.created_at)} if job.started_at else {}
    return {name: round(seconds, 3) for name, seconds in {**waited, **job.seconds}.items()}
