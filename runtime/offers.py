"""`/v1/models` and `/v1/options`: what can be asked for, what of it fits now, and how long it takes."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from runtime.families import FAMILIES
from runtime.formats import FORMATS
from runtime.guard import Refusal
from runtime.memory import tier
from runtime.options import DEFAULT_PRESET, PRESETS, build_request
from runtime.services import Services, Use
from runtime.uploads import FORMATS as PICTURE_FORMATS
from runtime.uploads import MAX_BYTES
from runtime.views import Failure

router = APIRouter(prefix="/v1", tags=["what can be asked for"])

Picture = Annotated[
    str | None,
    Query(
        pattern="^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$", description="WIDTHxHEIGHT; else a square one", examples=["640x427"]
    ),
]


@router.get("/models")
def models(use: Use) -> dict[str, Any]:
    """The models that this server can serve; `active` is the one that new videos are made with."""
    return {"object": "list", "data": [_model(model_id, use) for model_id in use.dispatcher.loadings]}


@router.get("/models/{model_id}", responses={404: {"model": Failure}})
def model(model_id: str, use: Use) -> dict[str, Any]:
    """One of them."""
    if model_id not in use.dispatcher.loadings:
        raise Refusal(404, "not_found", f"this server serves {', '.join(use.dispatcher.loadings)}")
    return _model(model_id, use)


@router.get("/options", responses={400: {"model": Failure}})
def options(use: Use, picture: Picture = None) -> dict[str, Any]:
    """What can be asked for: what fits now, why the rest does not, and how long it takes.

    `wait_s` is what the jobs take that are there already, `expected_s` what a video takes once it is its turn.
    """
    spec, room, wait = use.spec, use.dispatcher.state.room, use.dispatcher.expected_wait()
    shape = (int(picture.partition("x")[0]), int(picture.partition("x")[2])) if picture else None
    return {
        "model": {"id": spec.id, "title": spec.title, "note": spec.note, "takes_prompt": spec.takes_prompt},
        "models": list(use.dispatcher.loadings),
        "presets": [_preset(name, use, shape) for name in PRESETS],
        "default_preset": DEFAULT_PRESET,
        "wait_s": None if wait is None else round(wait, 1),
        "fast": FAMILIES[spec.family].fast is not None,
        "tier": tier(room.total) if room and room.kind == "cuda" else None,
        "formats": [
            {"name": row.name, "suffix": row.suffix, "media_type": row.media_type, "about": row.about}
            for row in FORMATS.values()
        ],
        "picture": {"formats": PICTURE_FORMATS, "max_bytes": MAX_BYTES},
    }


def _model(model_id: str, use: Services) -> dict[str, Any]:
    spec = use.dispatcher.loadings[model_id].spec
    return {
        "id": spec.id,
        "object": "model",
        "created": 0,  # nobody knows when; clients of the API want a number
        "owned_by": spec.repo.partition("/")[0] if spec.repo else "i2v-setup",
        "title": spec.title,
        "note": spec.note,
        "active": spec.id == use.spec.id,
    }


def _preset(name: str, use: Services, picture: tuple[int, int] | None) -> dict[str, Any]:
    """A preset for a picture of this size; `fits` is None until the worker is there."""
    wanted = build_request(name, model=use.spec, picture_size=picture, seed=0)
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
