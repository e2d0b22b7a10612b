"""Whose host is whose: a mirror that has its bytes from another candidate's is no mirror of its own. Pure text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mirrors.catalogue import Mirror
from mirrors.urls import host


class Hosts:
    """The hosts of all candidates; thread-safe.

    Where upstream keeps its files is learnt from its own answers: index and files may lie on different hosts.
    """

    def __init__(self, mirrors: Sequence[Mirror]) -> None:
        in_doubt_upstream = sorted(mirrors, key=lambda mirror: mirror.upstream)
        self._owners = {host(mirror.url): mirror for mirror in in_doubt_upstream}

    def learn(self, mirror: Mirror, hosts: Iterable[str]) -> None:
        """A mirror's answers came from there."""
        if mirror.upstream:
            self._owners |= dict.fromkeys(hosts, mirror)

    def owner(self, mirror: Mirror, hosts: Iterable[str]) -> Mirror | None:
        """The other candidate that one of these hosts belongs to, if there is one."""
        if mirror.upstream:
            return None
        own = host(mirror.url)
        owners = (self._owners.get(name) for name in hosts if name != own)
        return next((owner for owner in owners if owner is not None and host(owner.url) != own), None)
