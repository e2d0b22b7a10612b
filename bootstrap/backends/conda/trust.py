"""Which sha256 of a package to believe: a mirror's index alone is not enough, since it can be as false as the bytes.

A hash counts if it was learnt before, if the place where the channel is published says it, or if two mirrors that are
run by different people say the same. Arithmetic on what was said; asks nobody itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bootstrap.backends.conda.packages import CondaPackage, is_package, is_sha256
from bootstrap.errors import SetupError
from mirrors.catalogue import Mirror
from mirrors.errors import MirrorError
from mirrors.urls import host

_ANOTHER = "take another mirror"
_SECOND_LEVEL = ("ac", "co", "com", "edu", "gov", "net", "org")  # as in tsinghua.edu.cn
_SAME_PEOPLE = {"bfsu.edu.cn": "tsinghua.edu.cn"}  # BFSU's mirror is looked after by TUNA


@dataclass(frozen=True)
class Claim:
    """What an index says of a package: nothing of it is known to be true, but a name is one, and so is a sha256."""

    channel: str
    subdir: str
    filename: str
    sha256: str | None
    size: int | None

    def __post_init__(self) -> None:
        if not is_package(self.subdir, self.filename):
            raise SetupError(f"an index lists {self.filename!r} in {self.subdir!r}, which is no package", _ANOTHER)
        if self.sha256 is not None and not is_sha256(self.sha256):
            raise SetupError(f"an index has no sha256 for {self.filename}, but {self.sha256[:64]!r}", _ANOTHER)

    @property
    def key(self) -> str:
        """As CondaPackage has it."""
        return f"{self.channel}/{self.subdir}/{self.filename}"


class Lied(SetupError):
    """A mirror's index contradicts one that is to be believed; nothing more is taken from it."""

    def __init__(self, mirror: Mirror, message: str) -> None:
        super().__init__(message, "name another mirror; where all say so, the channel itself was changed")
        self.mirror = mirror


@dataclass(frozen=True)
class Verdict:
    """What is to be believed.

    Attributes:
        believed: the packages, in the order that was claimed, as far as they were confirmed.
        learnt: those of them that were not known before, with who said so.
        unconfirmed: the claims that nobody else confirmed.
        reasons: why others could not say anything, for people.
    """

    believed: list[CondaPackage]
    learnt: dict[str, str]
    unconfirmed: list[Claim]
    reasons: list[str]


Asking = Callable[[Mirror, Sequence[Claim]], Iterable[Claim]]


def judge(
    claims: Sequence[Claim], base: Mirror, known: Mapping[str, str], others: Sequence[Mirror], ask: Asking
) -> Verdict:
    """Find out which of a mirror's claims are to be believed.

    Args:
        claims: what the index of `base` says.
        base: whose index it is.
        known: sha256 by key, learnt before.
        others: who may be asked; one that publishes the channel is believed.
        ask: what one of them says of the same packages.

    Raises:
        Lied: what `base` says is not true.
    """
    votes = {claim.key: _Votes(claim, base) for claim in claims}
    for key in votes.keys() & known.keys():
        votes[key].settle(known[key], "the lock")
    reasons = []
    for other in _witnesses(base, others):
        missing = [vote.claim for vote in votes.values() if vote.sha256 is None]
        try:
            for claim in ask(other, missing) if missing else ():
                if claim.key in votes:
                    votes[claim.key].hear(claim, other)
        except Lied:
            raise
        except (SetupError, MirrorError) as error:
            reasons.append(f"{other.name} could not be asked: {error}")
    settled = [vote for vote in votes.values() if vote.sha256 is not None]
    return Verdict(
        [vote.package for vote in settled],
        {vote.claim.key: vote.whose for vote in settled if vote.claim.key not in known},
        [vote.claim for vote in votes.values() if vote.sha256 is None],
        reasons,
    )


def _witnesses(base: Mirror, others: Sequence[Mirror]) -> list[Mirror]:
    """Who may confirm what one mirror says: where the channel is published first, then mirrors of other people."""
    apart = [it for it in others if it.url != base.url and (it.upstream or operator(it) != operator(base))]
    return sorted(apart, key=lambda mirror: not mirror.upstream)


def operator(mirror: Mirror) -> str:
    """Who runs a mirror: the domain that its host belongs to."""
    name = host(mirror.url)
    labels = (urlsplit(f"//{name}").hostname or "").split(".")
    if not labels[-1].isalpha():
        return name  # an address, which says nothing of who it belongs to
    domain = ".".join(labels[-3:] if len(labels) > 2 and labels[-2] in _SECOND_LEVEL else labels[-2:])
    return _SAME_PEOPLE.get(domain, domain)


class _Votes:
    """What is said of one package, by whom."""

    def __init__(self, claim: Claim, base: Mirror) -> None:
        self.claim, self._base = claim, base
        self.sha256: str | None = None
        self.size = claim.size
        self.whose = ""
        self._said: dict[str, list[Mirror]] = {}
        self.hear(claim, base)

    def hear(self, claim: Claim, whose: Mirror) -> None:
        """One more opinion; a package that has no sha256 in an index was not spoken of."""
        if claim.sha256 is None or self.sha256 is not None:
            return
        supporters = self._said.setdefault(claim.sha256, [])
        supporters.append(whose)
        if claim.size != self.size:
            self.size = claim.size if whose.upstream else None
        if whose.upstream or len({operator(mirror) for mirror in supporters}) > 1:
            self.settle(claim.sha256, whose.name if whose.upstream else " and ".join(it.name for it in supporters))

    @property
    def package(self) -> CondaPackage:
        """What it comes down to."""
        assert self.sha256 is not None
        return CondaPackage(self.claim.channel, self.claim.subdir, self.claim.filename, self.sha256, self.size)

    def settle(self, sha256: str, whose: str) -> None:
        """It is decided; whoever claimed something else is found out."""
        self.sha256, self.whose = sha256, whose
        if self.claim.sha256 not in (None, sha256):
            raise Lied(
                self._base,
                f"{self._base.name} lists another sha256 for {self.claim.filename} than {whose} "
                f"({self.claim.sha256} instead of {sha256})",
            )


def take_on_faith(verdict: Verdict) -> list[CondaPackage]:
    """The packages that only one mirror vouches for, as the user wants it.

    Raises:
        SetupError: the index has no sha256 for one.
    """
    bare = next((claim for claim in verdict.unconfirmed if claim.sha256 is None), None)
    if bare is not None:
        raise SetupError(
            f"no index has a sha256 for {bare.filename}",
            "take another channel or mirror: such a file cannot be checked",
        )
    return [
        CondaPackage(claim.channel, claim.subdir, claim.filename, claim.sha256, claim.size)
        for claim in verdict.unconfirmed
        if claim.sha256 is not None
    ]
