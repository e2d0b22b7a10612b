"""The seeded scenarios of `benchmarks.mirrors`: twelve mirrors, the files that are wanted, and the truth about them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random

from benchmarks.families import FAMILIES, rate_of
from benchmarks.shaped import OUT, File, Shape


@dataclass(frozen=True)
class Scenario:
    """One contest.

    Attributes:
        seed: what it was made from.
        family: what it is about.
        shapes: the mirrors; the first is the upstream.
        files: the plan; the first is the largest.
        link: bytes/s of the client's own line; None: wide enough.
        capped: whether three or more mirrors are capped per connection or per host, at similar rates.
        fixed: the number of the mirror that somebody configured long ago; it works.
    """

    seed: int
    family: str
    shapes: tuple[Shape, ...]
    files: tuple[File, ...]
    link: float | None
    capped: bool
    fixed: int

    @property
    def total(self) -> int:
        """Bytes of the plan."""
        return sum(file.size for file in self.files)

    @property
    def out(self) -> frozenset[int]:
        """The mirrors that must not be chosen: a probe can see what is wrong with them."""
        return frozenset(number for number, shape in enumerate(self.shapes) if shape.fault in OUT)

    @property
    def by_promise(self) -> tuple[int, ...]:
        """The mirrors that complete the plan alone, the soonest first as far as their shapes tell."""
        complete = [number for number, shape in enumerate(self.shapes) if not shape.fault]
        return tuple(sorted(complete, key=lambda number: self._alone(self.shapes[number])))

    def _alone(self, shape: Shape) -> float:
        warm = min(rate_of(shape), self.link or math.inf)
        cold = min(warm, shape.cold_rate or math.inf)
        hot = sum(file.size for file in self.files if file.name in shape.hot)
        waits = shape.first_byte * (1 + self.total / warm / 2) + (shape.cold_wait if hot < self.total else 0)
        return waits + hot / warm + (self.total - hot) / cold


def scenario(seed: int) -> Scenario:
    """The scenario of that seed; the families take turns."""
    family = tuple(FAMILIES)[seed % len(FAMILIES)]
    random = Random(seed)
    draft = FAMILIES[family](random)
    sizes = sorted(draft.sizes, reverse=True)
    files = tuple(File(f"bench{place:03}-1.0-py3-none-any.whl", size, seed) for place, size in enumerate(sizes))
    # A hot cache is one that has the largest file, and only that.
    shapes = tuple(replace(shape, hot=(files[0].name,)) if shape.hot else shape for shape in draft.shapes)
    works = [number for number, shape in enumerate(shapes) if number and not shape.fault]
    return Scenario(seed, family, shapes, files, draft.link, draft.capped, random.choice(works or [0]))
