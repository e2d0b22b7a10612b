"""What the scenarios of `benchmarks.scenarios` are about: a family is a function from a random generator to a draft.

Rates and sizes are small enough for many scenarios at once on two cores, and in the proportions of the real thing: a
few seconds for the best mirror, latencies as they are, a plan of many times what a probe reads. Knows nothing of how
anybody chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from benchmarks.shaped import Fault, Shape

MIRRORS = 12
CONNECTIONS = 4  # to one mirror
MB = 1e6


@dataclass(frozen=True)
class Draft:
    """What a family decides; the rest follows from the seed.

    Attributes:
        shapes: the mirrors; one that is `hot` has the largest file in its cache, whatever it is called.
        sizes: of the files, in bytes.
        link: as in `Scenario`, like `capped`.
    """

    shapes: list[Shape]
    sizes: list[int]
    link: float | None = None
    capped: bool = False


def rate_of(shape: Shape) -> float:
    """Bytes/s that all connections to a mirror give together."""
    return min(shape.rate or math.inf, CONNECTIONS * (shape.connection_rate or math.inf))


def _distance(random: Random) -> tuple[float, float]:
    """Seconds of a round trip, and of thinking before the first byte."""
    return min(max(random.lognormvariate(math.log(0.04), 0.6), 0.005), 0.25), min(
        random.lognormvariate(math.log(0.03), 0.8), 0.4
    )


def _shape(random: Random, rate: float | None, connection_rate: float | None) -> Shape:
    rtt, first_byte = _distance(random)
    return Shape(rate, connection_rate, rtt, first_byte)


def _ordinary(random: Random, best: float, count: int = MIRRORS) -> list[Shape]:
    """Mirrors with log-normal rates, the best of which is `best`; one connection gets a third of it or more."""
    drawn = [random.lognormvariate(0, 0.9) for _ in range(count)]
    rates = [max(best * rate / max(drawn), 0.02 * MB) for rate in drawn]
    return [_shape(random, rate, rate * random.uniform(0.35, 1)) for rate in rates]


def _best(random: Random) -> float:
    return random.uniform(0.8, 2.0) * MB


def _fastest(shapes: Sequence[Shape]) -> int:
    return max(range(len(shapes)), key=lambda number: rate_of(shapes[number]))


def _sizes(random: Random, total: float, count: int | None = None) -> list[int]:
    """A plan as plans are: one file is a good part of it, others are middling and small."""
    shares = [random.lognormvariate(0, 1.2) for _ in range(count or random.randint(3, 9))]
    return [max(20_000, int(total * share / sum(shares))) for share in shares]


def _plan(random: Random, best: float, seconds: tuple[float, float] = (5, 8)) -> list[int]:
    """Files that the best mirror alone would give in so many seconds."""
    return _sizes(random, best * random.uniform(*seconds))


def _with(shapes: list[Shape], numbers: Sequence[int], fault: Fault, after: int = 0) -> list[Shape]:
    changed = [replace(shape, fault=fault, after=after) if n in numbers else shape for n, shape in enumerate(shapes)]
    working = [number for number, shape in enumerate(changed) if not shape.fault]
    return [replace(shape, target=0 if 0 in working else working[0]) for shape in changed]


def _log_normal(random: Random) -> Draft:
    best = _best(random)
    return Draft(_ordinary(random, best), _plan(random, best))


def _three_hang(random: Random) -> Draft:
    draft = _log_normal(random)
    return replace(draft, shapes=_with(draft.shapes, random.sample(range(MIRRORS), 3), "hang"))


def _capped(random: Random, per_connection: bool, count: int) -> Draft:
    cap = random.uniform(0.6, 1.3) * MB
    caps = [cap * random.uniform(0.8, 1) for _ in range(count)]
    shapes = [
        _shape(random, None if per_connection else one, one / CONNECTIONS * (1 if per_connection else 2))
        for one in caps
    ]
    shapes += _ordinary(random, cap * 0.4, MIRRORS - count)
    random.shuffle(shapes)
    return Draft(shapes, _plan(random, cap, (6, 9)), capped=True)


def _capped_per_connection(random: Random) -> Draft:
    return _capped(random, True, random.randint(3, 6))


def _capped_per_host(random: Random) -> Draft:
    return _capped(random, False, random.randint(3, 6))


def _capped_and_hanging(random: Random) -> Draft:
    draft = _capped(random, random.random() < 0.5, random.randint(4, 6))
    slow = sorted(range(MIRRORS), key=lambda number: rate_of(draft.shapes[number]))[:5]
    return replace(draft, shapes=_with(draft.shapes, random.sample(slow, 3), "hang"))


def _hot_decoys(random: Random) -> Draft:
    best = _best(random)
    shapes = _ordinary(random, best)
    for number in random.sample([n for n in range(MIRRORS) if n != _fastest(shapes)], 3):
        cold = best * random.uniform(0.05, 0.15)
        decoy = _shape(random, best * 1.5, best * 0.6)
        shapes[number] = replace(decoy, cold_wait=random.uniform(0.2, 1), cold_rate=cold, hot=("",))
    return Draft(shapes, _plan(random, best))


def _cold_caches(random: Random) -> Draft:
    best = _best(random)
    shapes = [
        replace(shape, cold_wait=random.uniform(0.1, 0.8), cold_rate=rate_of(shape) * random.uniform(0.3, 1))
        for shape in _ordinary(random, best)
    ]
    return Draft(shapes, _plan(random, best, (3, 5)))


def _long_fat_pipes(random: Random) -> Draft:
    best = random.uniform(1.5, 2.5) * MB
    shapes = [replace(shape, rtt=random.uniform(0.15, 0.3)) for shape in _ordinary(random, best)]
    return Draft(shapes, _plan(random, best))


def _one_good(random: Random) -> Draft:
    best = random.uniform(1.2, 2.5) * MB
    shapes = [_shape(random, random.uniform(0.02, 0.08) * MB, None) for _ in range(MIRRORS)]
    faults: list[Fault] = ["hang", "forbidden", "stale", "portal", "size"]
    numbers = random.sample(range(MIRRORS), len(faults) + 1)
    shapes[numbers[0]] = _shape(random, best, best * random.uniform(0.35, 1))
    for number, fault in zip(numbers[1:], faults, strict=True):
        shapes = _with(shapes, [number], fault)
    return Draft(shapes, _plan(random, best, (8, 11)))


def _slow_upstream(random: Random) -> Draft:
    best = _best(random)
    shapes = [_shape(random, random.uniform(0.03, 0.15) * MB, None), *_ordinary(random, best, MIRRORS - 1)]
    return Draft(shapes, _plan(random, best))


def _fails_in_the_middle(random: Random) -> Draft:
    best = _best(random)
    shapes, sizes = _ordinary(random, best), _plan(random, best)
    fault: Fault = random.choice(["dies", "stalls"])
    next_best = random.choice([number for number in range(MIRRORS) if number != _fastest(shapes)])
    shapes[next_best] = _shape(random, best * random.uniform(0.6, 0.9), None)
    return Draft(_with(shapes, [_fastest(shapes)], fault, int(sum(sizes) * random.uniform(0.15, 0.5))), sizes)


def _fast_liar(random: Random) -> Draft:
    best = _best(random)
    shapes = _ordinary(random, best)
    liar = random.choice([number for number in range(MIRRORS) if number != _fastest(shapes)])
    shapes[liar] = _shape(random, best * random.uniform(1, 2), None)
    return Draft(_with(shapes, [liar], "tamper"), _plan(random, best))


def _late_bloomer(random: Random) -> Draft:
    best = _best(random)
    shapes = _ordinary(random, best * random.uniform(0.3, 0.7))
    wait = random.uniform(0.7, 1.5)
    late = replace(_shape(random, best, best * random.uniform(0.35, 1)), first_byte=wait)
    if random.random() < 0.5:  # only until it has the file
        late = replace(late, first_byte=0.02, cold_wait=wait)
    shapes[random.randrange(MIRRORS)] = late
    return Draft(shapes, _plan(random, best))


def _small_plan(random: Random) -> Draft:
    best = _best(random)
    return Draft(_ordinary(random, best), _sizes(random, random.uniform(2, 4) * MB))


def _large_plan(random: Random) -> Draft:
    best = random.uniform(2, 3) * MB
    return Draft(_ordinary(random, best), _plan(random, best, (8, 11)))


def _one_big_file(random: Random) -> Draft:
    best = _best(random)
    return Draft(_ordinary(random, best), _sizes(random, best * random.uniform(5, 8), 1))


def _many_small_files(random: Random) -> Draft:
    best = _best(random)
    return Draft(_ordinary(random, best), _sizes(random, best * random.uniform(5, 8), random.randint(40, 90)))


def _narrow_line(random: Random) -> Draft:
    link = _best(random)
    return Draft(_ordinary(random, 3 * link), _plan(random, link, (8, 11)), link=link)


def _tempting(random: Random) -> Draft:
    best = _best(random)
    shapes = _ordinary(random, best)
    faults: list[Fault] = ["forbidden", "stale", "size", "portal", "redirect", "links"]
    numbers = random.sample([n for n in range(1, MIRRORS) if n != _fastest(shapes)], len(faults))
    for number, fault in zip(numbers, faults, strict=True):
        shapes[number] = Shape(best * 3, None, 0.005, 0.005)
        shapes = _with(shapes, [number], fault)
    return Draft(shapes, _plan(random, best))


FAMILIES: dict[str, Callable[[Random], Draft]] = {
    "log-normal": _log_normal,
    "three hang": _three_hang,
    "capped per connection": _capped_per_connection,
    "capped per host": _capped_per_host,
    "capped, three hang": _capped_and_hanging,
    "hot decoys": _hot_decoys,
    "cold caches": _cold_caches,
    "long fat pipes": _long_fat_pipes,
    "one good, eleven bad": _one_good,
    "slow upstream": _slow_upstream,
    "fails in the middle": _fails_in_the_middle,
    "fast liar": _fast_liar,
    "late bloomer": _late_bloomer,
    "small plan": _small_plan,
    "large plan": _large_plan,
    "one big file": _one_big_file,
    "many small files": _many_small_files,
    "narrow line": _narrow_line,
    "tempting but out": _tempting,
}
