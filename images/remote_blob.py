"""A blob that lies on a registry: read when it is wanted, checked on the way, taken up again where it broke off."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from images.calls import TRIES, wait_before
from images.oci import Descriptor
from images.references import Reference
from images.registry_errors import RegistryError, damaged
from images.registry_http import Answer


@dataclass(frozen=True)
class RemoteBlob:
    """Bytes on a registry. `open` asks for those of a digest, from an offset on."""

    descriptor: Descriptor
    open: Callable[[str, int], Answer] = field(repr=False)
    reference: Reference

    def read(self, offset: int = 0) -> Iterator[bytes]:
        """Its bytes from `offset` on.

        Read from 0, they are checked, and the last piece is given only if all are right; read from elsewhere, nobody
        can say whether they are, and only their number is.

        Raises:
            ImageError: The registry has not these bytes, or does not give them.
        """
        digest = None if offset else hashlib.sha256()
        at, tried = offset, 0
        while at < self.descriptor.size:
            began = at
            try:
                for piece in self._pieces(at):
                    at += len(piece)
                    if digest:
                        digest.update(piece)
                        if at == self.descriptor.size:
                            self._check(f"sha256:{digest.hexdigest()}")
                    yield piece
            except RegistryError as error:
                tried = 0 if at > began else tried + 1
                if tried == TRIES or not error.passes:
                    raise
                wait_before(tried, error.wait)

    def _pieces(self, at: int) -> Iterator[bytes]:
        """The bytes from there on, all of them and no more."""
        with self.open(self.descriptor.digest, at) as answer:
            skip = 0 if answer.status == 206 else at
            for piece in answer.pieces():
                wanted = piece[skip:]
                skip -= len(piece) - len(wanted)
                at += len(wanted)
                if at > self.descriptor.size:
                    raise damaged(self.reference, self._what, f"it is larger than {self.descriptor.size} bytes")
                if wanted:
                    yield wanted
        if at < self.descriptor.size:
            raise damaged(self.reference, self._what, f"it ends after {at} of {self.descriptor.size} bytes")

    def _check(self, found: str) -> None:
        if found != self.descriptor.digest:
            raise damaged(self.reference, self._what, f"its digest is {found}")

    @property
    def _what(self) -> str:
        return f"the blob {self.descriptor.digest}"
