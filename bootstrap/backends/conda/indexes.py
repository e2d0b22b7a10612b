"""What mirrors' indexes say, read by py-rattler through a relay: records, solutions and claims about packages.

Everything that is learnt here is only what somebody says; `trust` decides what to believe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import quote

from bootstrap.backends.conda import rattler
from bootstrap.backends.conda.packages import address
from bootstrap.backends.conda.trust import Claim
from mirrors.catalogue import Mirror
from mirrors.http import HttpSettings
from mirrors.relay import Relay

_TELL = 1_000_000  # bytes


@dataclass(frozen=True)
class Local:
    """Channels on this disk: the records that a solver needs, taken from mirrors.

    Attributes:
        urls: file URLs by the channels' names, in their order.
        claims: what the mirrors say of each package, by SUBDIR/NAME-VERSION-BUILD without the suffix, a .conda first.
    """

    urls: Mapping[str, str]
    claims: Mapping[str, Claim]


class Indexes:
    """The indexes of one kind of machine, as long as the `with` block lasts.

    Args:
        subdir: the kind of machine.
        http: how the mirrors are asked.
        room: an empty directory for what is read.
        env: such as CONDA_OVERRIDE_CUDA.
        say: told how much was read.
    """

    def __init__(
        self, subdir: str, http: HttpSettings, room: Path, env: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self._subdir, self._room, self._env, self._say = subdir, room, env, say
        self._relay = Relay(http, self._count)
        self._stack = ExitStack()
        self._read, self._lock = 0, threading.Lock()

    def __enter__(self) -> Indexes:
        self._stack.enter_context(self._relay)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def failure(self, channel: str, mirror: Mirror) -> str | None:
        """What went wrong with a mirror, if it did not answer as it should."""
        return self._relay.failures.get(address(mirror, channel))

    def solve(self, bases: Mapping[str, Mirror], specs: Sequence[str]) -> list[Claim]:
        """The packages that fulfil the specs, dependencies first, as py-rattler finds them.

        Args:
            bases: whose index is read of each channel, the most important channel first.
            specs: what is wanted.

        Raises:
            rattler.Failed: there is no solution, or an index could not be read.
        """
        return self._claims_of("solve", bases, {"specs": list(specs)})

    def said(self, channel: str, mirror: Mirror, claims: Sequence[Claim]) -> list[Claim]:
        """What a mirror's index says of these packages.

        Raises:
            rattler.Failed: it could not be read.
        """
        names = sorted({claim.filename.rsplit("-", 2)[0] for claim in claims})
        files = [f"{claim.subdir}/{claim.filename}" for claim in claims]
        return self._claims_of("claims", {channel: mirror}, {"specs": names, "files": files})

    def gather(self, bases: Mapping[str, Mirror], specs: Sequence[str]) -> Local:
        """All records that a solver may need, as channels on this disk.

        Raises:
            rattler.Failed: an index could not be read.
        """
        out = Path(mkdtemp(prefix="channels-", dir=self._room))
        directories = {channel: f"{number}/{directory_of(channel)}" for number, channel in enumerate(bases)}
        more = {"specs": list(specs), "out": str(out), "directories": directories}
        answer = self._ask("gather", bases, more)
        urls = {channel: (out / directory).as_uri() for channel, directory in directories.items()}
        claims: dict[str, Claim] = {}
        for row in answer["packages"]:
            claim = _claim(row)
            stem = claim.filename.removesuffix(".conda").removesuffix(".tar.bz2")
            place = f"{claim.subdir}/{stem}"
            had = claims.get(place)
            if had is None or (claim.filename.endswith(".conda") and had.channel == claim.channel):
                claims[place] = claim
        return Local(urls, claims)

    def _count(self, count: int) -> None:
        with self._lock:
            before, self._read = self._read, self._read + count
            if before // _TELL != self._read // _TELL:
                self._say(f"{self._read / 1e6:.0f} MB of indexes read")

    def _claims_of(self, act: str, bases: Mapping[str, Mirror], more: Mapping[str, Any]) -> list[Claim]:
        answer = self._ask(act, bases, more)
        return [_claim(row) for row in answer["packages"]]

    def _ask(self, act: str, bases: Mapping[str, Mirror], more: Mapping[str, Any]) -> Any:
        """By the small parts of an index where it has those, else whole: some link them to where we do not follow."""
        request = {
            "channels": {channel: self._relay.url(address(mirror, channel)) for channel, mirror in bases.items()},
            "subdir": self._subdir,
            "cache": str(self._room / "index"),
            **more,
        }
        self._relay.failures.clear()
        try:
            return rattler.ask(act, {**request, "sharded": True}, self._env)
        except rattler.NoSolution:
            raise
        except rattler.Failed as error:
            told = [f"{it.name} {why}" for channel, it in bases.items() if (why := self.failure(channel, it))]
            if told:  # it is not the parts that are to blame
                raise rattler.Failed("; ".join(told), error.hint) from error
            return rattler.ask(act, {**request, "sharded": False}, self._env)


def directory_of(channel: str) -> str:
    """A directory's name for a channel: solvers show it as the channel's."""
    return quote(channel.rpartition("/")[2] if "://" in channel else channel, safe="")


def _claim(row: Mapping[str, Any]) -> Claim:
    return Claim(row["channel"], row["subdir"], row["filename"], row["sha256"], row["size"])
