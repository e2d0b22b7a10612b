"""Looks for packages that fulfil an environment.yml and whose hashes can be believed, one mirror's index after another.

A mirror that lags behind the others, that cannot be read, or whose index is false is left for the next one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

from bootstrap.backends.conda import channels, trust
from bootstrap.backends.conda.channels import Seen
from bootstrap.backends.conda.environment import Environment
from bootstrap.backends.conda.family import Program
from bootstrap.backends.conda.indexes import Indexes
from bootstrap.backends.conda.packages import CondaPackage
from bootstrap.backends.conda.rattler import NoSolution
from bootstrap.backends.conda.trust import Claim, Lied, Verdict
from bootstrap.errors import SetupError
from mirrors import catalogue
from mirrors.catalogue import Mirror
from mirrors.choose import reasons
from mirrors.http import HttpSettings

_ATTEMPTS = 4  # indexes that are read in full, one after the other
_SHOWN = 3  # packages that a message names


@dataclass(frozen=True)
class Question:
    """What is asked of the channels.

    Attributes:
        wanted: the environment.yml.
        subdir: the kind of machine.
        cuda: the newest CUDA that may be used; None: no GPU is.
        mirror: "auto", or whose index is read.
        hashes: whether somebody other than that mirror must confirm every sha256.
    """

    wanted: Environment
    subdir: str
    cuda: str | None
    mirror: str = "auto"
    hashes: bool = True

    @property
    def environ(self) -> dict[str, str]:
        """What solvers need to be told of this machine; they see the rest themselves."""
        return {"CONDA_OVERRIDE_CUDA": self.cuda or ""}

    @property
    def name(self) -> str:
        """For a file: the same question has the same name, whoever is asked."""
        parts = (*self.wanted.channels, "", *sorted(self.wanted.specs), "", self.subdir, self.cuda or "")
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
        machine = f"{self.subdir}-{f'cuda{self.cuda}' if self.cuda else 'cpu'}"
        return f"{self.wanted.path.stem}-{machine}-{digest}{'' if self.hashes else '-unchecked'}"


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        packages: dependencies first.
        notes: what a person should know of how they were found.
        on_faith: the keys of those that only one mirror vouches for.
    """

    packages: tuple[CondaPackage, ...]
    notes: tuple[str, ...]
    on_faith: frozenset[str] = frozenset()


class Search:
    """One search.

    Args:
        question: what is wanted.
        program: who solves; None: py-rattler.
        known: the packages whose hashes were learnt before, by key.
        http: how mirrors are asked.
        own: the user's own mirrors.
        room: an empty directory.
        say: told what is being done.
    """

    def __init__(
        self,
        question: Question,
        program: Program | None,
        known: Mapping[str, CondaPackage],
        http: HttpSettings,
        own: Path,
        room: Path,
        say: Callable[[str], None],
    ) -> None:
        self._question, self._program, self._own, self._room, self._say = question, program, own, room, say
        self._known = {key: package.sha256 for key, package in known.items()}
        self._http = http
        self._seen: dict[str, list[Seen]] = {}
        self._ranked = {channel: self._rank(channel) for channel in question.wanted.channels}
        self._dropped: set[str] = set()  # addresses of mirrors
        self._problems: list[SetupError] = []
        self._notes: list[str] = []

    def run(self) -> Found:
        """The packages.

        Raises:
            SetupError: there is no solution, or none that can be believed; says why.
        """
        asked = self._question
        with Indexes(asked.subdir, self._http, self._room, asked.environ, self._say) as self._indexes:
            for _ in range(_ATTEMPTS):
                bases = self._bases()
                try:
                    found = self._attempt(bases)
                except Lied as error:
                    self._problems.append(error)
                    self._notes.append(f"{error}: nothing is taken from its index")
                    at_fault = [error.mirror]
                except SetupError as error:
                    self._problems.append(error)
                    at_fault = self._failed(bases) or [*bases.values()]
                else:
                    return replace(found, notes=(*self._notes, *found.notes))
                if self._is_hopeless() or not self._drop(bases, at_fault):
                    break
        raise self._problems[0]

    def _rank(self, channel: str) -> tuple[Mirror, ...]:
        """Whose index of the channel may be taken, best first."""
        if "://" in channel:  # nobody else has it, so it is published there
            there = replace(catalogue.adhoc(channel, channel, "conda"), upstream=True)
            return channels.with_index(self._look([there], channel), channel)
        if self._question.mirror != "auto":
            named = catalogue.find(self._question.mirror, "conda", self._own)
            return channels.with_index(self._look([named], channel), channel)
        return channels.with_index(self._everybody(channel), channel)

    def _look(self, mirrors: Sequence[Mirror], channel: str) -> list[Seen]:
        self._say(f"ask {len(mirrors)} mirrors for the channel {channel}")
        return channels.look(mirrors, channel, self._question.subdir, self._http)

    def _everybody(self, channel: str) -> list[Seen]:
        """All that are known, and how they answer; asked once."""
        if channel not in self._seen:
            self._seen[channel] = self._look(catalogue.mirrors("conda", self._own), channel)
        return self._seen[channel]

    def _bases(self) -> dict[str, Mirror]:
        """Whose index is read of each channel now."""
        return {
            channel: next(mirror for mirror in mirrors if mirror.url not in self._dropped)
            for channel, mirrors in self._ranked.items()
        }

    def _drop(self, bases: Mapping[str, Mirror], at_fault: Sequence[Mirror]) -> bool:
        """Leave those for others, where there are any; whether there were."""
        urls = {mirror.url for mirror in at_fault}
        gone = self._dropped | urls
        replaceable = all(
            any(mirror.url not in gone for mirror in self._ranked[channel])
            for channel, base in bases.items()
            if base.url in urls
        )
        self._dropped = gone
        return replaceable

    def _is_hopeless(self) -> bool:
        """One mirror may lag behind; what two of them cannot solve, the others will not either."""
        return sum(isinstance(problem, NoSolution) for problem in self._problems) > 1

    def _failed(self, bases: Mapping[str, Mirror]) -> list[Mirror]:
        return [base for channel, base in bases.items() if self._indexes.failure(channel, base)]

    def _attempt(self, bases: Mapping[str, Mirror]) -> Found:
        names = ", ".join(dict.fromkeys(base.name for base in bases.values()))
        self._say(f"solve with the index of {names}")
        claims = self._claims(bases)
        believed: dict[str, CondaPackage] = {}
        notes: list[str] = []
        learnt: Counter[str] = Counter()
        on_faith: set[str] = set()
        for channel, base in bases.items():
            of_channel = [claim for claim in claims if claim.channel == channel]
            verdict = self._judge(channel, base, of_channel)
            if verdict.unconfirmed:
                if self._question.hashes:
                    raise self._unconfirmed(verdict, channel, base)
                believed.update({package.key: package for package in trust.take_on_faith(verdict)})
                on_faith |= {claim.key for claim in verdict.unconfirmed}
                number = len(verdict.unconfirmed)
                notes.append(f"only {base.name} vouches for {number} packages, which --no-hashes allows")
            believed.update({package.key: package for package in verdict.believed})
            learnt.update(verdict.learnt.values())
        notes += [f"learnt the sha256 of {number} packages from {whose}" for whose, number in learnt.items()]
        return Found(tuple(believed[claim.key] for claim in claims), tuple(notes), frozenset(on_faith))

    def _claims(self, bases: Mapping[str, Mirror]) -> list[Claim]:
        specs = self._question.wanted.specs
        if self._program is None:
            return self._indexes.solve(bases, specs)
        local = self._indexes.gather(bases, [*specs, "pip"])  # which mamba wants wherever Python is asked for
        room = Path(mkdtemp(prefix="solve-", dir=self._room))
        places = self._program.solve([*local.urls.values()], specs, room, self._question.environ)
        missing = next((place for place in places if place not in local.claims), None)
        if missing is not None:
            raise SetupError(f"{self._program.name} wants {missing}, which no channel has", "use --backend rattler")
        return [local.claims[place] for place in places]

    def _judge(self, channel: str, base: Mirror, claims: Sequence[Claim]) -> Verdict:
        """Whether to believe what the index of one channel says, asking others as far as that is needed."""
        others = () if "://" in channel else [it.mirror for it in self._everybody(channel) if not it.problem]

        def ask(other: Mirror, unsettled: Sequence[Claim]) -> Iterator[Claim]:
            self._say(f"ask {other.name} for {len(unsettled)} hashes")
            yield from self._indexes.said(channel, other, unsettled)

        return trust.judge(claims, base, self._known, others, ask)

    def _unconfirmed(self, verdict: Verdict, channel: str, base: Mirror) -> SetupError:
        names = ", ".join(claim.filename for claim in verdict.unconfirmed[:_SHOWN])
        more = len(verdict.unconfirmed) - _SHOWN
        out = reasons((it.mirror.name, it.problem) for it in self._everybody(channel) if it.problem)
        why = "; ".join(filter(None, [*verdict.reasons, out]))
        return SetupError(
            f"nobody but {base.name} says what the sha256 of {names}{f' and {more} more' if more > 0 else ''} is"
            f"{f' ({why})' if why else ''}",
            "a second mirror run by other people, or where the channel is published, must be reachable once; "
            "or name a list with sha256 (--environment LIST.txt); --no-hashes believes the one mirror",
        )
