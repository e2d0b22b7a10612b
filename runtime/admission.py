"""From an upload to a job on disk: what is refused before its bytes are read, what after, and in what words.

    429 queue_full               before the upload is read
    503 worker_unavailable       the same
    400 invalid_option, invalid_picture
    422 does_not_fit             with what would fit
    409 idempotency_key_reused
    507 disk_full

Knows nothing of how videos are made.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from anyio import to_thread
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from runtime.bounds import InvalidOption
from runtime.families import MAX_SIDE
from runtime.formats import DEFAULT_FORMAT
from runtime.guard import Refusal
from runtime.jobs import DiskFull, Job, JobStore, KeyReused, QueueFull
from runtime.models import ModelSpec
from runtime.options import DEFAULT_PRESET, MAX_PROMPT, GenerationRequest, build_request
from runtime.services import Services
from runtime.uploads import PictureRefused, read_picture, to_bitmap

_MAX_FIELD = 32 * 1024
_PICTURE_FIELD = "input_reference"


class VideoForm(BaseModel):
    """The fields of `POST /v1/videos` beside the picture; what is not sent is the preset's."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field("", max_length=MAX_PROMPT, examples=["clouds drift over the temple"])
    negative_prompt: str | None = None
    model: str | None = Field(None, description="one that this server serves; see /v1/models")
    preset: str = Field(DEFAULT_PRESET, description="see /v1/options", examples=["preview"])
    size: str | None = Field(None, description="WIDTHxHEIGHT; else the picture's shape", examples=["512x512"])
    width: int | None = Field(None, ge=1, le=MAX_SIDE)
    height: int | None = Field(None, ge=1, le=MAX_SIDE)
    seconds: float | None = Field(None, description="the length of the video, in place of num_frames")
    num_frames: int | None = None
    fps: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = Field(None, description="the same seed gives the same video", examples=[7])
    output_format: str = Field(DEFAULT_FORMAT, description="see /v1/options")
    fast: bool = Field(False, description="a little less exact, in less time")

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
            fast=self.fast,
        )

    def _size(self) -> str | None:
        if (self.width is None) != (self.height is None):
            raise InvalidOption("width and height go together", "send both, or size, or neither")
        if self.width is None:
            return self.size
        if self.size is not None:
            raise InvalidOption("size says the same as width and height", "send one of the two")
        return f"{self.width}x{self.height}"


def described() -> dict[str, Any]:
    """The body for the OpenAPI description, which cannot see it: it is read only once there is room."""
    schema = VideoForm.model_json_schema()
    picture = {"type": "string", "format": "binary", "description": "PNG, JPEG or WebP"}
    schema["properties"] = {_PICTURE_FIELD: picture, **schema["properties"]}
    schema["required"] = [_PICTURE_FIELD]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def admit(request: Request, services: Services) -> Job:
    """Queues what a request asks for. When this returns, the job is on disk.

    Raises:
        Refusal: It is not taken, and why.
    """
    if broken := services.dispatcher.state.error:
        raise Refusal(503, "worker_unavailable", broken, {"Retry-After": "30"})
    key = request.headers.get("idempotency-key")
    with refusals(services):
        await to_thread.run_sync(_check_room, services.store, key)
        async with request.form(max_files=1, max_fields=32, max_part_size=_MAX_FIELD) as form:
            fields, upload = _read_form(form)
            picture, size = await to_thread.run_sync(_take_picture, upload, limiter=services.decoding)
        job = await to_thread.run_sync(_queue, services, fields, picture, size, key)
    services.dispatcher.wake()
    return job


@contextmanager
def refusals(services: Services) -> Iterator[None]:
    """Turns what is wrong with a request into the answer that says so."""
    try:
        yield
    except KeyReused as problem:
        raise Refusal(409, "idempotency_key_reused", f"{problem}: {problem.hint}") from None
    except DiskFull as problem:
        raise Refusal(507, "disk_full", f"{problem}: {problem.hint}") from None
    except InvalidOption as problem:
        raise Refusal(400, "invalid_option", f"{problem}: {problem.hint}") from None
    except PictureRefused as problem:
        raise Refusal(400, "invalid_picture", f"{problem}: {problem.hint}") from None
    except QueueFull as problem:
        headers = {"Retry-After": str(services.dispatcher.retry_after())}
        raise Refusal(429, "queue_full", f"{problem}: {problem.hint}", headers) from None


def _check_room(store: JobStore, key: str | None) -> None:
    """Raises QueueFull if there is no room; a video that is known by its key needs none."""
    if key is None or store.with_key(key) is None:
        store.check_room()


def _queue(services: Services, fields: VideoForm, picture: bytes, size: tuple[int, int], key: str | None) -> Job:
    spec = services.spec
    wanted = fields.to_request(spec, size)
    _check_fits(wanted, services)
    fingerprint = None if key is None else _fingerprint(fields, picture)
    return services.store.add(spec.id, wanted, picture, key=key, fingerprint=fingerprint)


def _check_fits(wanted: GenerationRequest, services: Services) -> None:
    verdict = services.dispatcher.verdict(wanted)
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
    return to_bitmap(picture), picture.size


def _fingerprint(fields: VideoForm, picture: bytes) -> str:
    """The same for the same fields and pixels: a seed that was not sent is another one each time."""
    return hashlib.sha256(fields.model_dump_json().encode() + picture).hexdigest()
