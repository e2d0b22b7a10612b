"""The HTTP face: which rooms answer which paths, and in what shape errors leave.

    /v1/videos                                               runtime.videos (with runtime.admission and runtime.views)
    /v1/models, /v1/options                                  runtime.offers
    /health, /ready, /metrics, /v1/summary, /admin/reload    runtime.operation
    /                                                        the page

Imports no torch.
"""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from runtime import __version__, offers, operation, videos
from runtime.guard import ApiKey, Guard, Refusal, Rules
from runtime.metrics import Counting
from runtime.services import Services
from runtime.uploads import MAX_BYTES

_WEB = Path(__file__).parent / "web"
#: A picture, and room for the other fields.
_MAX_BODY = MAX_BYTES + 256 * 1024


def create_app(services: Services, *, api_key: ApiKey | None, loopback_only: bool) -> FastAPI:
    """The application.

    Args:
        services: What its handlers work with.
        api_key: Needed below /v1/ and /admin/, if given.
        loopback_only: Whether requests under other names than this machine's own are refused.
    """
    app = FastAPI(
        title="i2v-setup",
        version=__version__,
        docs_url=None,  # their pages load code from elsewhere
        redoc_url=None,
        middleware=[
            Middleware(Counting, metrics=services.metrics),
            Middleware(Guard, Rules(_MAX_BODY, api_key, loopback_only)),
        ],
        exception_handlers={
            Refusal: _answer_refusal,
            HTTPException: _answer_http_exception,
            RequestValidationError: _answer_invalid,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_fault,
        },
    )
    services.metrics.watch(services.store, services.dispatcher)
    app.state.services = services
    for router in (operation.router, videos.router, offers.router):
        app.include_router(router)
    app.mount("/", StaticFiles(directory=_WEB, html=True))
    return app


async def _answer_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _answer_http_exception(_request: Request, error: Exception) -> Response:
    """What the framework refuses (no such path, another method, a broken form), in our shape."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    return Refusal(error.status_code, code, error.detail, error.headers).response()


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    """What the framework reads from the address and cannot use, in our shape."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return Refusal(400, "invalid_option", f"{first['loc'][-1]!r} cannot be used: {first['msg']}").response()


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # who asked has gone


async def _answer_fault(_request: Request, _error: Exception) -> Response:
    return Refusal(500, "internal_error", "the server made a mistake; its log says which").response()
