"""For whoever runs the server: is it there, does it work, load the model anew. `/health`, `/ready` and so on."""

import os
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from prometheus_client import CONTENT_TYPE_LATEST as _PROMETHEUS
from starlette.responses import JSONResponse, Response

from runtime import __version__
from runtime.guard import Refusal
from runtime.services import Use
from runtime.summary import MOST, Facts, of_job, text, versions
from runtime.views import Failure

router = APIRouter(tags=["operation"])


@router.get("/health")
async def health() -> dict[str, str]:
    """The server is there."""
    return {"status": "ok", "version": __version__}


@router.get("/ready", responses={503: {"description": "no videos are made; the body says why"}})
async def ready(use: Use) -> JSONResponse:
    """Whether videos are made, how long each phase from the start to there took, and what is wrong."""
    state = use.dispatcher.state
    body = {
        "ready": state.ready,
        "stopping": use.dispatcher.draining,
        "model": use.spec.id,
        "note": use.spec.note,
        "device": state.device,
        "precision": state.precision,
        "memory": {"total": state.room.total, "available": state.room.available} if state.room else None,
        "residency": asdict(state.residency),
        "reloading": state.reloading,
        "reload_error": state.reload_error,
        "phases": [asdict(phase) for phase in state.phases],
        "error": state.error,
        "restarts": state.restarts,
        "pid": os.getpid(),  # whoever started a server sees that it is this one that answers
    }
    return JSONResponse(body, 200 if state.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {_PROMETHEUS: {}}}})
def metrics(use: Use) -> Response:
    """Numbers for Prometheus."""
    return Response(use.metrics.text(), media_type=_PROMETHEUS)


@router.get("/v1/summary")
def summary(use: Use) -> dict[str, str]:
    """What to paste into a bug report: versions, GPU, settings, timings, last errors; no keys, no prompts."""
    state, residency = use.dispatcher.state, use.dispatcher.state.residency
    told = Facts(
        versions=versions(),
        state="ready" if state.ready else state.error or "starting",
        device=state.device,
        model=use.spec.id,
        precision=state.precision,
        residency=f"offload: {residency.offload}" + (", in 8 bits" if residency.fp8 else ""),
        settings=use.setup,
        phases=state.phases,
        jobs=[of_job(job) for job in use.store.listing(MOST).jobs],
        errors=use.errors(),
    )
    return {"text": text(told)}


@router.post("/admin/reload", status_code=202, responses={400: {"model": Failure}})
def reload(
    use: Use, model: Annotated[str | None, Query(description="one of /v1/models; else the present one, anew")] = None
) -> dict[str, Any]:
    """Loads the model anew, or another one; the worker that serves goes on until that is ready, where memory allows."""
    if model is not None and model not in use.dispatcher.loadings:
        raise Refusal(400, "unknown_model", f"this server serves {', '.join(use.dispatcher.loadings)}")
    use.dispatcher.reload(model)
    return {"reloading": model or use.spec.id}
