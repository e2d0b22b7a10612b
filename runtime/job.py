"""One job of the queue, and how its row is read back: whatever stands in the row, reading it does not raise.

Knows nothing of SQL statements, of files or of time.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from runtime.bounds import InvalidOption
from runtime.options import GenerationRequest

Status = Literal["queued", "in_progress", "completed", "failed"]

_LONGEST_KEY = 255
#: What two requests have in common that one call of the model can make together; the rest is each video's own.
_SHAPE = ("width", "height", "num_frames", "num_inference_steps", "guidance_scale", "fps", "fast")
#: Stands in for what cannot be read of a stored request.
_BLANK = GenerationRequest(
    prompt="",
    negative_prompt="",
    width=16,
    height=16,
    num_frames=1,
    num_inference_steps=1,
    guidance_scale=1.0,
    fps=8,
    seed=0,
)


@dataclass(frozen=True)
class Job:
    """One row of the queue.

    Attributes:
        number: Its place: a smaller one came earlier.
        id: What clients know it by.
        status: See `runtime.jobs`.
        model: The id of the model that it was accepted for.
        request: What to make; of a request that is `unreadable`, what could be read.
        created_at: Seconds since 1970, as are `started_at` and `completed_at`.
        started_at: When its present attempt began.
        completed_at: When it ended, however it did.
        attempts: How often it was begun, without the attempts that do not count.
        lease: The number of its latest attempt, which is never used again.
        error_code: Why it has failed, for programs.
        error_message: Why it has failed, for people.
        seconds: How long each part of the work took.
        key: The client's own name for it, if it gave one.
        unreadable: What is wrong with the request as it is stored; empty if nothing is.
    """

    number: int
    id: str
    status: Status
    model: str
    request: GenerationRequest
    created_at: float
    started_at: float | None
    completed_at: float | None
    attempts: int
    lease: int
    error_code: str | None
    error_message: str | None
    seconds: Mapping[str, float]
    key: str | None = None
    unreadable: str = ""

    def goes_with(self, other: "Job") -> bool:
        """Whether one call of the model may make both.

        One that was begun before may be what its worker died of, so it takes nobody with it. A fast one goes alone:
        what is left out is decided over all that is in the call (`runtime.approximations`).
        """
        if self.attempts or other.attempts or self.model != other.model or self.request.fast:
            return False
        return all(getattr(self.request, name) == getattr(other.request, name) for name in _SHAPE)


def read_job(row: Mapping[str, Any]) -> Job:
    """The job that a row of the database means."""
    values = {field.name: row[field.name] for field in fields(Job) if field.name != "unreadable"}
    try:
        values["request"] = GenerationRequest.from_json(row["request"])
    except (InvalidOption, RecursionError) as problem:
        values["request"] = _what_can_be_read(row["request"])
        values["unreadable"] = str(problem)
    values["seconds"] = {
        name: took for name, took in _json_object(row["seconds"]).items() if isinstance(took, int | float)
    }
    return Job(**values)


def check_key(key: str) -> None:
    """Raises InvalidOption unless a client may name its job so."""
    if not 1 <= len(key) <= _LONGEST_KEY or not key.isprintable():
        raise InvalidOption("the idempotency key cannot be used", f"1 to {_LONGEST_KEY} printable characters")


def fingerprint_of(model: str, request: GenerationRequest, picture: bytes) -> str:
    """The same for the same work alone."""
    digest = hashlib.sha256()
    for part in (model.encode(), request.to_json().encode(), picture):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _what_can_be_read(text: str) -> GenerationRequest:
    request = _BLANK
    for name, value in _json_object(text).items():
        try:
            request = replace(request, **{name: value})
        except (InvalidOption, TypeError):  # out of bounds, or no such field
            continue
    return request


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
