"""How long a file is, where only its sources can tell: what they say, and whom to believe.

The most are believed; of equally many, those that say the least, for what is too short is found out soonest. Whoever
says otherwise is set aside, no more: it is asked again when the believed ones give nothing, or a whole that is wrong.
Pure data.
"""

from __future__ import annotations

from collections import defaultdict

from mirrors.fetching.transfer import SourceFault
from mirrors.fetching.work import Rank, Source


class Claims:
    """The sizes that the sources of one file say."""

    def __init__(self) -> None:
        self._said: dict[Source, int] = {}

    def add(self, source: Source, total: int) -> None:
        """A source says that the file has so many bytes.

        Raises:
            SourceFault: it said something else before.
        """
        before = self._said.setdefault(source, total)
        if total != before:  # it could keep all others from their work for ever
            raise SourceFault(f"has a file of {total} bytes, and of {before} before", "never")

    def withdraw(self, source: Source) -> None:
        """Forget what a source said."""
        self._said.pop(source, None)

    def by(self, size: int | None) -> set[str]:
        """The mirrors (host:port) that say so."""
        return {source.mirror.netloc for source, total in self._said.items() if total == size}

    @property
    def believed(self) -> int | None:
        """What the most say of those that can still bring the file; None: none of them has said anything."""
        able, good = defaultdict[int, set[str]](set), defaultdict[int, set[str]](set)
        for source, total in self._said.items():
            if source.able:
                able[total].add(source.mirror.netloc)
                if source.rank == Rank.GOOD:
                    good[total].add(source.mirror.netloc)
        return max(able, key=lambda total: (len(good[total]), len(able[total]), -total), default=None)

    def set_aside(self, size: int | None) -> None:
        """Use only those that say so, and those that have said nothing yet."""
        for source, total in self._said.items():
            agrees = size is None or total == size
            source.aside = None if agrees else f"has a file of {total} bytes, not {size}"
