"""`/v1/videos`, in the shape that clients already speak: create, wait, list, follow, fetch, delete."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import anyio
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, StreamingResponse

from runtime.admission import admit, described, refusals
from runtime.formats import FORMATS
from runtime.guard import Refusal
from runtime.job import Job
from runtime.services import Services, Use
from runtime.views import Deleted, Failure, Video, Videos, view

router = APIRouter(prefix="/v1/videos", tags=["videos"])

#: Between two looks at a job that somebody follows. The client package of the video API looks each second.
_LOOK_SECONDS = 0.25
#: So that whatever stands between does not take a long silence for the end.
_SIGN_OF_LIFE_SECONDS = 15.0
_NOT_TAKEN: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": why}
    for status, why in {
        400: "a setting or the picture cannot be used",
        409: "the idempotency key belongs to another request",
        413: "the request is too large",
        422: "it does not fit the memory; the message says what would",
        429: "the queue is full; Retry-After says when to come again",
        503: "there is no worker",
        507: "the disk is full",
    }.items()
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Failure, "description": "there is no video of this id"}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "the file", "content": {row.media_type: {} for row in FORMATS.values()}}
}


@router.post("", status_code=202, responses=_NOT_TAKEN, openapi_extra=described())
async def create(request: Request, use: Use) -> Video:
    """Queues a video. It is on disk when the answer leaves, and made once, whatever is killed."""
    return await to_thread.run_sync(view, await admit(request, use), use)


@router.post("/sync", response_class=FileResponse, responses={**_NOT_TAKEN, **_FILE}, openapi_extra=described())
async def create_and_wait(request: Request, use: Use) -> FileResponse:
    """Makes a video and answers with its file. Whoever goes away meanwhile finds it under /v1/videos."""
    job = await admit(request, use)
    while job.status not in ("completed", "failed"):
        await anyio.sleep(_LOOK_SECONDS)
        job = await to_thread.run_sync(use.known, job.id)
    if job.status == "failed":
        raise Refusal(500, job.error_code or "failed", job.error_message or "the video could not be made")
    return _file(job, use)


@router.get("", responses={400: {"model": Failure}})
def listing(
    use: Use,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="the last id of the page before")] = None,
    order: Literal["asc", "desc"] = "desc",
) -> Videos:
    """The videos by the time they were asked for: the queue, what is being made, and what is kept."""
    with refusals(use):
        page = use.store.listing(limit, after, newest_first=order == "desc")
    data = [view(job, use) for job in page.jobs]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return Videos(data=data, first_id=first, last_id=last, has_more=page.has_more)


@router.get("/{video_id}", responses=_UNKNOWN)
def retrieve(video_id: str, use: Use) -> Video:
    """How far a video is."""
    return view(use.known(video_id), use)


@router.get(
    "/{video_id}/events",
    response_class=StreamingResponse,
    responses={**_UNKNOWN, 200: {"description": "server-sent events", "content": {"text/event-stream": {}}}},
)
async def follow(video_id: str, use: Use) -> StreamingResponse:
    """Each change of a video as a server-sent event named "video", until it has ended."""
    await to_thread.run_sync(use.known, video_id)
    return StreamingResponse(_changes(video_id, use), media_type="text/event-stream")


@router.get(
    "/{video_id}/content",
    response_class=FileResponse,
    responses={**_UNKNOWN, **_FILE, 409: {"model": Failure, "description": "it is not made"}},
)
def content(video_id: str, use: Use, variant: str = "video") -> FileResponse:
    """The file."""
    job = use.known(video_id)
    if variant != "video":
        raise Refusal(400, "invalid_option", "unknown variant: there is only 'video'")
    if job.status != "completed":
        raise Refusal(409, "not_completed", f"there is no video: the job is {job.status}")
    return _file(job, use)


@router.post("/{video_id}/cancel", responses=_UNKNOWN)
def cancel(video_id: str, use: Use) -> Video:
    """Ends an unfinished video, which then is failed with the code "cancelled". One that has ended stays as it is."""
    use.dispatcher.cancel(video_id)
    return view(use.known(video_id), use)


@router.delete("/{video_id}", responses=_UNKNOWN)
def delete(video_id: str, use: Use) -> Deleted:
    """Cancels an unfinished video, which then is failed with the code "cancelled"; forgets a finished one."""
    use.known(video_id)
    if not use.dispatcher.cancel(video_id):
        use.store.remove(video_id)
    return Deleted(id=video_id)


def _file(job: Job, use: Services) -> FileResponse:
    written = FORMATS[job.request.output_format]
    headers = {"X-Video-Id": job.id}
    path = use.store.video(job)
    return FileResponse(path, media_type=written.media_type, filename=f"{job.id}{written.suffix}", headers=headers)


async def _changes(video_id: str, use: Services) -> AsyncIterator[str]:
    def look() -> Video | None:
        job = use.store.get(video_id)
        return view(job, use) if job else None

    told, silent = None, 0.0
    while video := await to_thread.run_sync(look):
        if video != told:
            yield f"event: video\ndata: {video.model_dump_json()}\n\n"
            told, silent = video, 0.0
        elif silent >= _SIGN_OF_LIFE_SECONDS:
            yield ": still there\n\n"
            silent = 0.0
        if video.status in ("completed", "failed"):
            return
        await anyio.sleep(_LOOK_SECONDS)
        silent += _LOOK_SECONDS
    yield f'event: deleted\ndata: {{"id":"{video_id}"}}\n\n'
