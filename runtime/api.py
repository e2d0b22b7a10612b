"""The HTTP face: `/v1/videos` in the shape that clients already speak, `/health`, `/ready`, and the page.

Checks, stores and tells; the work is done elsewhere (`runtime.dispatcher`). Imports no torch.
"""

import hashlib
import os
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from runtime import __version__
from runtime.bounds import InvalidOption
from runtime.dispatcher import Dispatcher
from runtime.families import MAX_SIDE
from runtime.formats import DEFAULT_FORMAT, FORMATS
from runtime.guard import ApiKey, Guard, Refusal, Rules
from runtime.jobs import DiskFull, Job, JobStore, KeyReused, QueueFull
from runtime.memory import tier
from runtime.models import ModelSpec
from runtime.options import DEFAULT_PRESET, PRESETS, GenerationRequest, build_request
from runtime.uploads import FORMATS as PICTURE_FORMATS
from runtime.uploads import MAX_BYTES, PictureRefused, read_picture, to_png

_WEB = Path(__file__).parent / "web"
#: A picture, and room for the other fields.
_MAX_BODY = MAX_BYTES + 256 * 1024
_MAX_FIELD = 32 * 1024
_PICTURE_FIELD = "input_reference"


class VideoForm(BaseModel):
    """The fields of `POST /v1/videos` beside the picture; what is not sent is the preset's."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = ""
    negative_prompt: str | None = None
    model: str | None = None
    preset: str = DEFAULT_PRESET
    size: str | None = None
    width: int | None = Field(None, ge=1, le=MAX_SIDE)
    height: int | None = Field(None, ge=1, le=MAX_SIDE)
    seconds: float | None = None
    num_frames: int | None = None
    fps: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    output_format: str = DEFAULT_FORMAT

    def to_request(self, spec: ModelSpec, picture_size: tuple[int, int]) -> GenerationRequest:
        """The checked request that these fields mean.

        Raises:
            InvalidOption: A value that cannot be used, or two that contradict each other.
        """
        if self.model not in (None, spec.id):
            raise InvalidOption(f"unknown model {self.model!r}", f"this server serves {spec.id!r}")
        return build_request(
            self.preset,
            picture_size=picture_size,
            size=self._size(),
            model=spec,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            num_frames=self.num_frames,
            seconds=self.seconds,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            fps=self.fps,
            output_format=self.output_format,
        )

    def _size(self) -> str | None:
        if (self.width is None) != (self.height is None):
            raise InvalidOption("width and height go together", "send both, or size, or neither")
        if self.width is None:
            return self.size
        if self.size is not None:
            raise InvalidOption("size says the same as width and height", "send one of the two")
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class _Services:
    """What the handlers work with."""

    store: JobStore
    dispatcher: Dispatcher
    decoding: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))  # bounds the memory it takes

    @property
    def spec(self) -> ModelSpec:
        """The model that new videos are for."""
        return self.dispatcher.accepted


def _services(request: Request) -> _Services:
    services: _Services = request.app.state.services
    return services


_Use = Annotated[_Services, Depends(_services)]
_status = APIRouter()
_videos = APIRouter(prefix="/v1")


@_status.get("/health")
async def health() -> dict[str, str]:
    """The server is there."""
    return {"status": "ok", "version": __version__}


@_status.get("/ready")
async def ready(use: _Use) -> JSONResponse:
    """Whether videos are made, how long each phase from the start to there took, and what is wrong."""
    state = use.dispatcher.state
    body = {
        "ready": state.ready,
        "model": use.spec.id,
        "note": use.spec.note,
        "device": state.device,
        "precision": state.precision,
        "reloading": state.reloading,
        "reload_error": state.reload_error,
        "phases": [asdict(phase) for phase in state.phases],
        "error": state.error,
        "restarts": state.restarts,
        "pid": os.getpid(),  # whoever started a server sees that it is this one that answers
    }
    return JSONResponse(body, 200 if state.ready else 503)


@_videos.get("/options")
def options(use: _Use) -> dict[str, Any]:
    """What can be asked for: what fits now, why the rest does not, and how long it takes."""
    spec, room = use.spec, use.dispatcher.state.room
    return {
        "model": {"id": spec.id, "title": spec.title, "note": spec.note, "takes_prompt": spec.takes_prompt},
        "models": list(use.dispatcher.loadings),
        "presets": [_preset(name, use) for name in PRESETS],
        "default_preset": DEFAULT_PRESET,
        "tier": tier(room.total) if room and room.kind == "cuda" else None,
        "formats": [
            {"name": row.name, "suffix": row.suffix, "media_type": row.media_type, "about": row.about}
            for row in FORMATS.values()
        ],
        "picture": {"formats": PICTURE_FORMATS, "max_bytes": MAX_BYTES},
    }


def _preset(name: str, use: _Services) -> dict[str, Any]:
    """A preset for a square picture; `fits` is None until the worker is there."""
    wanted = build_request(name, model=use.spec, seed=0)
    verdict, expected = use.dispatcher.verdict(wanted), use.dispatcher.expected(wanted)
    return {
        "name": name,
        **asdict(PRESETS[name]),
        "num_frames": wanted.num_frames,
        "fits": verdict.fits if verdict else None,
        "reason": verdict.told(wanted) if verdict and not verdict.fits else None,
        "said": list(verdict.said) if verdict else [],
        "expected_s": round(expected.seconds, 1) if expected else None,
        "expected_is_measured": expected.sure if expected else False,
    }


@_videos.post("/videos", status_code=202)
async def create(request: Request, use: _Use) -> dict[str, Any]:
    """Queues a video. Multipart; the job is on disk when the answer leaves."""
    broken = use.dispatcher.state.error
    if broken:
        raise Refusal(503, "worker_unavailable", broken, {"Retry-After": "30"})
    key = request.headers.get("idempotency-key")
    try:
        await to_thread.run_sync(_check_room, use.store, key)  # before the upload is read
        async with request.form(max_files=1, max_fields=32, max_part_size=_MAX_FIELD) as form:
            fields, upload = _read_form(form)
            picture, size = await to_thread.run_sync(_take_picture, upload, limiter=use.decoding)
        spec = use.spec
        wanted = fields.to_request(spec, size)
        await to_thread.run_sync(_check_fits, wanted, use)
        add = partial(use.store.add, spec.id, wanted, picture, key=key, fingerprint=_fingerprint(fields, picture))
        job = await to_thread.run_sync(add)
    except KeyReused as problem:
        raise Refusal(409, "idempotency_key_reused", f"{problem}: {problem.hint}") from None
    except DiskFull as problem:
        raise Refusal(507, "disk_full", f"{problem}: {problem.hint}") from None
    except InvalidOption as problem:
        raise Refusal(400, "invalid_option", f"{problem}: {problem.hint}") from None
    except PictureRefused as problem:
        raise Refusal(400, "invalid_picture", f"{problem}: {problem.hint}") from None
    except QueueFull as problem:
        headers = {"Retry-After": str(use.dispatcher.retry_after())}
        raise Refusal(429, "queue_full", f"{problem}: {problem.hint}", headers) from None
    use.dispatcher.wake()
    return _video(job, use)


@_videos.get("/videos/{video_id}")
def retrieve(video_id: str, use: _Use) -> dict[str, Any]:
    """How far a video is."""
    return _video(_known(use.store, video_id), use)


@_videos.get("/videos/{video_id}/content")
def content(video_id: str, use: _Use, variant: str = "video") -> FileResponse:
    """The MP4."""
    job = _known(use.store, video_id)
    if variant != "video":
        raise Refusal(400, "invalid_option", "unknown variant: there is only 'video'")
    if job.status != "completed":
        raise Refusal(409, "not_completed", f"there is no video: the job is {job.status}")
    written = FORMATS[job.request.output_format]
    return FileResponse(use.store.video(job), media_type=written.media_type, filename=f"{job.id}{written.suffix}")


@_videos.delete("/videos/{video_id}")
def delete(video_id: str, use: _Use) -> dict[str, Any]:
    """Cancels an unfinished video, which then is failed with the code "cancelled"; forgets a finished one."""
    _known(use.store, video_id)
    if not use.dispatcher.cancel(video_id):
        use.store.remove(video_id)
    return {"id": video_id, "object": "video.deleted", "deleted": True}


def _check_room(store: JobStore, key: str | None) -> None:
    """Raises QueueFull if there is no room; a video that is known by its key needs none."""
    if key is None or store.with_key(key) is None:
        store.check_room()


def _check_fits(wanted: GenerationRequest, use: _Services) -> None:
    verdict = use.dispatcher.verdict(wanted)
    if verdict and not verdict.fits:
        raise Refusal(422, "does_not_fit", verdict.told(wanted))


def _read_form(form: FormData) -> tuple[VideoForm, BinaryIO]:
    upload = form.get(_PICTURE_FIELD)
    if not isinstance(upload, UploadFile):
        raise PictureRefused(f"the picture is missing: {_PICTURE_FIELD}", "send it as a file in multipart/form-data")
    # An empty field is one that was left out; an empty negative prompt is a wish.
    fields = {
        name: value for name, value in form.items() if name != _PICTURE_FIELD and (value or name == "negative_prompt")
    }
    try:
        return VideoForm.model_validate(fields), upload.file
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidOption(f"{name[:80]!r} cannot be used", first["msg"]) from None


def _take_picture(file: BinaryIO) -> tuple[bytes, tuple[int, int]]:
    """What is kept of an upload: its pixels, never its name or what else is in the file."""
    picture = read_picture(file)
    return to_png(picture), picture.size


def _fingerprint(fields: VideoForm, picture: bytes) -> str:
    """The same for the same fields and pixels: a seed that was not sent is another one each time."""
    return hashlib.sha256(fields.model_dump_json().encode() + picture).hexdigest()


def _known(store: JobStore, video_id: str) -> Job:
    job = store.get(video_id)
    if job is None:
        raise Refusal(404, "not_found", "there is no video of this id")
    return job


def _video(job: Job, use: _Services) -> dict[str, Any]:
    """A job as clients of the video API read it; below the line what only ours read."""
    live = use.dispatcher.live(job)
    expires = use.store.expires_at(job)
    wanted = job.request
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": job.status,
        "progress": 100 if job.status == "completed" else _percent(live.step, live.steps) if live else 0,
        "created_at": int(job.created_at),
        "completed_at": int(job.completed_at) if job.completed_at else None,
        "expires_at": int(expires) if expires else None,
        "size": f"{wanted.width}x{wanted.height}",
        "seconds": f"{wanted.num_frames / wanted.fps:g}",
        "prompt": wanted.prompt,
        "error": {"code": job.error_code, "message": job.error_message} if job.error_code else None,
        # ---
        "seed": wanted.seed,
        "settings": asdict(wanted),
        "warnings": wanted.warnings_for(use.spec),
        "attempts": job.attempts,
        "jobs_ahead": use.store.ahead_of(job) if job.status == "queued" else 0,
        "step": live.step if live else 0,
        "steps": wanted.num_inference_steps,
        "remaining_s": round(live.remaining, 1) if live and live.remaining is not None else None,
        "inference_time_s": round(sum(job.seconds.values()), 3) if job.seconds else None,
        "stage_durations": _stages(job),
    }


def _percent(step: int, steps: int) -> int:
    return min(99, 100 * step // steps) if steps else 0  # 100 is for what can be downloaded


def _stages(job: Job) -> dict[str, float]:
    waited = {"queue": max(0.0, job.started_at - job.created_at)} if job.started_at else {}
    return {name: round(seconds, 3) for name, seconds in {**waited, **job.seconds}.items()}


async def _answer_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _answer_http_exception(_request: Request, error: Exception) -> Response:
    """What the framework refuses (no such path, another method, a broken form), in our shape."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    return Refusal(error.status_code, code, error.detail, error.headers).response()


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # who asked has gone


async def _answer_fault(_request: Request, _error: Exception) -> Response:
    return Refusal(500, "internal_error", "the server made a mistake; its log says which").response()


def create_app(store: JobStore, dispatcher: Dispatcher, *, api_key: ApiKey | None, loopback_only: bool) -> FastAPI:
    """The application.

    Args:
        store: Where jobs are kept.
        dispatcher: What works on them.
        api_key: Needed below /v1/, if given.
        loopback_only: Whether requests under other names than this machine's own are refused.
    """
    app = FastAPI(
        title="i2v-setup",
        version=__version__,
        docs_url=None,  # their pages load code from elsewhere
        redoc_url=None,
        middleware=[Middleware(Guard, Rules(_MAX_BODY, api_key, loopback_only))],
        exception_handlers={
            Refusal: _answer_refusal,
            HTTPException: _answer_http_exception,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_fault,
        },
    )
    app.state.services = _Services(store, dispatcher)
    app.include_router(_status)
    app.include_router(_videos)
    app.mount("/", StaticFiles(directory=_WEB, html=True))
    return app
