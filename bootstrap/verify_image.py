"""The build-image command's --verify: an image of an engine, a registry or a disk, held against what it claims."""

from __future__ import annotations

from contextlib import ExitStack

from bootstrap import pip_settings, weights
from bootstrap.console import Console
from bootstrap.sourcing import http_settings
from bootstrap.state import Home, writable
from images.opening import open_image
from images.spec import MODEL_LABEL
from images.verify import Verified, labels_of
from images.verify import verify as recompute
from mirrors.urls import redact
from runtime.models import MODELS


def verify(name: str, home: Home, console: Console) -> Verified:
    """Find the image, read all of it, and say what holds.

    Raises:
        ImageError: there is no such image, or it cannot be read. SetupError: the user's lock cannot be read.
    """
    http, shown = http_settings(pip_settings.read()), redact(name)
    with ExitStack() as stack:
        with console.working(f"find {shown}") as task:
            found = open_image(name, task.say, scratch=writable(home.cache), http=http)
            image = stack.enter_context(found)
        row = MODELS.get(labels_of(image).get(MODEL_LABEL, ""))
        expected = weights.known(home, row) if row else None
        total = sum(layer.descriptor.size for layer in image.layers)
        with console.working(f"verify {shown}", float(total)) as task:
            return recompute(image, expected, task.counting(total))


def told(name: str, verified: Verified) -> str:
    """What does not hold, in one sentence."""
    wrong = [row for row in verified.rows if not row.holds]
    first = f"{wrong[0].what} is {wrong[0].found}, and not {wrong[0].claimed}"
    count = f"{len(wrong)} of {len(verified.rows)} things do not hold, the first: " if len(wrong) > 1 else ""
    return f"{name} is not what it claims: {count}{first}"
