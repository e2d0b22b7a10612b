"""The whole is wrong: whose bytes were it? Found by comparing what is here with what other sources serve.

There is no sha256 of a part, so a difference says only that one of two is wrong. A third source decides; where there is
none, the one that has proven itself less is suspected, and acquitted again if the whole stays wrong without its bytes.
Knows nothing of how bytes come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mirrors.fetching.transfer import SourceFault
from mirrors.partial import Partial
from mirrors.ranges import Interval, Ranges

SAMPLE = 1 << 16  # bytes at either end of what a source gave: looked at before all the rest
SAMPLES = 8  # of the larger parts of each source
CHUNKS = 64  # that a file is compared in
SMALLEST, LARGEST = 1 << 18, 1 << 22  # bytes of such a chunk

Read = Callable[[str, int, int], bytes]  # (source, start, end), raises SourceFault


@dataclass(frozen=True)
class Verdict:
    """What to do about a whole that is wrong.

    Attributes:
        liars: the sources that are not to be asked again.
        forget: which bytes are no good.
        certain: False: it may have been the other one.
    """

    liars: frozenset[str]
    forget: Ranges
    certain: bool = True


def judge(partial: Partial, witnesses: Sequence[str], trust: Mapping[str, int], read: Read) -> Verdict:
    """Find who gave wrong bytes.

    Args:
        partial: the whole that is wrong.
        witnesses: the sources that can still be asked.
        trust: how many right bytes each gave before.
        read: how to ask them.
    """
    gave = partial.sources()
    able = list(witnesses)
    if not gave:
        return Verdict(frozenset(), Ranges())
    strangers = [name for name in gave if name not in witnesses]
    if strangers:  # nobody can be asked about these; they come from an earlier run
        return Verdict(frozenset(), _union(gave[name] for name in strangers))
    if len(gave) == 1:  # one of those that gave something is wrong
        return Verdict(frozenset(gave), _union(gave.values()))
    doubtful = sorted(gave, key=lambda name: trust.get(name, 0))
    chunk = min(max(SMALLEST, partial.have.end // CHUNKS), LARGEST)
    for giver, start, end in _chunks(gave, doubtful, chunk):
        difference = _differs(partial, giver, (start, end), able, read)
        if difference:
            return _decide(gave, partial.read(start, end), giver, difference, trust)
    return Verdict(frozenset(witnesses), _union(gave.values()))  # all agree, and all are wrong


def _chunks(gave: Mapping[str, Ranges], order: Sequence[str], size: int) -> Iterator[tuple[str, int, int]]:
    """What to compare: the ends of what each source gave first, as far as they are few, then everything."""
    for name in order:
        large = [(start, end) for start, end in gave[name] if end - start >= 8 * SAMPLE]
        for start, end in large[:SAMPLES]:
            yield name, start, min(end, start + SAMPLE)
            yield name, max(start, end - SAMPLE), end
    for name in order:
        for start, end in gave[name]:
            for position in range(start, end, size):
                yield name, position, min(end, position + size)


def _differs(partial: Partial, giver: str, part: Interval, able: list[str], read: Read) -> dict[str, bytes] | None:
    """What up to three sources serve for that part, where the first other one does not serve what is here.

    One of the `able` that does not answer is taken out: it has no say, and shall not be waited for again.
    """
    here = partial.read(*part)
    others = [name for name in able if name != giver]
    votes: dict[str, bytes] = {}

    def vote(name: str) -> None:
        try:
            votes[name] = read(name, *part)
        except SourceFault:
            able.remove(name)

    while others and not votes:
        vote(others.pop(0))
    if not votes or here in votes.values():
        return None
    if giver in able:
        vote(giver)
    while others and len(votes) < 3 and len(set(votes.values())) > 1:
        vote(others.pop(0))
    return votes


def _decide(
    gave: Mapping[str, Ranges], here: bytes, giver: str, votes: Mapping[str, bytes], trust: Mapping[str, int]
) -> Verdict:
    [(truth, count), *_] = Counter(votes.values()).most_common(1)
    if count > 1:
        liars = frozenset(name for name, vote in votes.items() if vote != truth)
        wrong = liars | ({giver} if here != truth else set())
        return Verdict(liars, _union(gave[name] for name in wrong if name in gave))
    parties = [name for name in {giver, *votes} if name in gave]
    # Of equally proven ones, who does not stand by its bytes, then who gave less.
    suspect = min(parties, key=lambda name: (trust.get(name, 0), name in votes, gave[name].total))
    return Verdict(frozenset({suspect}), gave[suspect], certain=False)


def _union(parts: Iterable[Ranges]) -> Ranges:
    return Ranges(interval for ranges in parts for interval in ranges)
