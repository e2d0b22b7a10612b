"""What the report command can show: one deployment, two side by side, or the list; each as data, table or page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType

from bootstrap import deployments
from bootstrap.report import Deployment
from bootstrap.reporting import compare, compare_page, page, predict, rows, spans, tables, trace
from bootstrap.reporting.words import Language
from bootstrap.state import Home


@dataclass(frozen=True)
class One:
    """One deployment."""

    found: Deployment

    def data(self) -> dict[str, Any]:
        """All that is known of it, and what is predicted."""
        predictions = (predict.predict(section) for section in self.found.sections)
        told = [
            {**section, "covered": spans.covered(known), "prediction": asdict(guess) if guess else None}
            for known, section, guess in zip(
                self.found.sections, asdict(self.found)["sections"], predictions, strict=True
            )
        ]
        return {"id": self.found.id, "sections": told}

    def table(self, lang: Language) -> RenderableType:
        """For a terminal."""
        return tables.deployment(self.found, lang)

    def html(self, lang: Language) -> str:
        """As a page."""
        return page.html(self.found, lang)

    def trace(self, lang: Language) -> str:
        """For Perfetto."""
        return trace.text(self.found, lang)


@dataclass(frozen=True)
class Two:
    """Two deployments side by side."""

    first: Deployment
    second: Deployment

    def data(self) -> dict[str, Any]:
        """What differs."""
        return compare.as_document(self.first, self.second)

    def table(self, lang: Language) -> RenderableType:
        """For a terminal."""
        return tables.comparison(self.first, self.second, lang)

    def html(self, lang: Language) -> str:
        """As a page."""
        return compare_page.html(self.first, self.second, lang)


@dataclass(frozen=True)
class Kept:
    """All deployments, the newest first."""

    found: tuple[Deployment, ...]

    def data(self) -> list[dict[str, Any]]:
        """A few facts of each."""
        return [
            {
                "id": one.id,
                "began": one.sections[0].began if one.sections else None,
                "model": one.model,
                "kinds": [section.kind for section in one.sections],
                "seconds": one.seconds,
                "bytes": sum(sum(rows.fetched(section).values()) for section in one.sections),
            }
            for one in self.found
        ]

    def table(self, lang: Language) -> RenderableType:
        """For a terminal."""
        return tables.kept(self.found, lang)


def one(home: Home, which: str) -> One:
    """One deployment by its id, "last" or "previous"; raises as `deployments.find`."""
    return One(deployments.find(home, which))


def two(home: Home, first: str, second: str) -> Two:
    """Two of them; raises as `deployments.find`."""
    return Two(deployments.find(home, first), deployments.find(home, second))


def kept(home: Home) -> Kept:
    """All of them."""
    return Kept(tuple(deployments.kept(home)))
