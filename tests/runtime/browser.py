"""A real browser for the tests of the page: Chromium as the system has it, led by Playwright, never downloaded.

A `Visit` is one person at the page. What their browser complains about, and whom it asks, is kept. Knows nothing of
what the page is for.
"""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.runtime.conftest import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

#: What is asked of axe-core's findings: these may not be there.
_FAULTS = {"serious", "critical"}
#: Seconds that anything may take which has to happen without a model.
SOON = 20.0


def missing() -> str | None:
    """What there is not and has to be."""
    if not _chromium():
        return "there is no chromium"
    absent = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
    return f"{' and '.join(absent)} missing" if absent else None


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser() -> Iterator["Browser"]:
    """Headless. While it is there, its thread runs an event loop, so no test may want one of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_chromium(), chromium_sandbox=False)
        yield started
        started.close()


@dataclass
class Visit:
    """One person at the page.

    Attributes:
        page: Their tab.
        server: The address that the page comes from.
        complaints: What the browser said of errors, and of what the page's policy forbids.
        asked: Every address that was asked for.
    """

    page: "Page"
    server: str
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        # From the first listener on Chromium hands choosers over. Were the listener only there when a key is pressed,
        # the key could overtake it, and the chooser would be lost.
        self.page.on("filechooser", lambda _: None)
        self.page.set_default_timeout(SOON * 1000)
        self.page.goto(self.server)

    def find(self, selector: str) -> "Locator":
        """What the selector means, if it can be seen."""
        return self.page.locator(f"{selector}:visible")

    def wait_for(self, selector: str, seconds: float = SOON) -> "Locator":
        """The element, as soon as it can be seen."""
        found = self.find(selector)
        found.first.wait_for(timeout=seconds * 1000)
        return found

    def wait_until_gone(self, selector: str, seconds: float = SOON) -> None:
        """Until none can be seen."""
        self.wait_until(lambda: self.find(selector).count() == 0, seconds)

    def wait_until(self, condition: Callable[[], Any], seconds: float = SOON) -> Any:
        """The first true value of `condition`, with the page's own work going on meanwhile."""

        def looked() -> Any:
            self.page.wait_for_timeout(50)
            return condition()

        return wait_until(looked, seconds)

    def text(self, selector: str) -> str:
        """What a person reads there."""
        return self.page.locator(selector).inner_text()

    def words(self, language: str) -> dict[str, str]:
        """All that the page can say in a language."""
        found: dict[str, str] = self.page.evaluate(
            "async (language) => (await import('/texts.js')).TEXTS[language]", language
        )
        return found

    def drop(self, file: Path, kind: str) -> None:
        """Lets go of a file over the page."""
        self.page.evaluate(
            """([name, kind, data]) => {
              const transfer = new DataTransfer();
              transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type: kind }));
              for (const type of ["dragover", "drop"]) {
                document.querySelector("h1").dispatchEvent(
                  new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
              }
            }""",
            [file.name, kind, base64.b64encode(file.read_bytes()).decode()],
        )

    def plays(self) -> dict[str, float]:
        """The video's size and how far it has got, as soon as it moves."""

        def moving() -> dict[str, float] | None:
            state: dict[str, float] = self.page.evaluate(
                "(({ videoWidth, videoHeight, currentTime }) => ({ videoWidth, videoHeight, currentTime }))"
                "(document.querySelector('video'))"
            )
            return state if state["currentTime"] > 0 else None

        state: dict[str, float] = self.wait_until(moving)
        return state

    def check_accessible(self) -> None:
        """That axe-core finds nothing serious in the page as it is, light and dark, and that it is not too wide."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            self.page.evaluate(_axe())
            found = self.page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
            told = [
                f"{scheme}: {each['id']}: {[node['html'] for node in each['nodes']]}"
                for each in found
                if each["impact"] in _FAULTS
            ]
            assert told == [], json.dumps(told, indent=1)
        width, room = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= room, "the page is wider than the screen"

    def check_quiet(self) -> None:
        """That the browser complained of nothing, and that nobody but the server was asked."""
        assert self.complaints == []
        own = urlsplit(self.server).netloc
        addresses = map(urlsplit, self.asked)
        assert {at.netloc for at in addresses if at.scheme not in {"blob", "data"}} == {own}

    def _hear(self, message: "ConsoleMessage") -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
