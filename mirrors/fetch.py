"""Files from several sources at once: verified, resumed, never half visible, and no source has to be trusted.

    want -> a download waits for its turn, and for the right to add its file   (here)
         -> its missing bytes are handed out as pieces                        (fetching.schedule, fetching.work)
         -> connections bring the pieces                                      (fetching.crew, fetching.transfer)
         -> hashed as they come; whose bytes, if they are wrong               (fetching.keeper, fetching.blame)
         -> given to readers meanwhile, and published                         (fetching.download, store)

A file is its sha256; a mirror, named by its host and port, is only transport. Knows nothing of indexes, or of which
mirror is fast, beyond what it is told and sees itself.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType

from mirrors.artifact import FLOW_SECONDS, Artifact, Fetched
from mirrors.errors import Busy, MirrorError
from mirrors.fetching.crew import Crew
from mirrors.fetching.download import Download
from mirrors.fetching.keeper import Keeper
from mirrors.fetching.schedule import Schedule
from mirrors.fetching.transfer import refusal
from mirrors.fetching.work import CONNECTIONS, Job, Rank, Source
from mirrors.http import HttpSettings
from mirrors.interrupt import Interrupted
from mirrors.store import Store
from mirrors.urls import host

__all__ = ["CONNECTIONS", "Artifact", "Download", "Downloads", "Fetched", "fetch"]

AT_ONCE = 16  # files that are open at a time, beside those that somebody reads; the others wait
BUSY_PAUSE = 0.2  # seconds until we look again whether another process is done with a file


class Downloads:
    """Files on their way into the store, all at once. Leaving the `with` block ends those that are not done.

    What came in is kept, and another run, or another process, goes on from there.
    """

    def __init__(
        self,
        store: Store,
        http: HttpSettings,
        on_bytes: Callable[[int], None] | None = None,
        rates: Mapping[str, float] | None = None,
        per_minute: Mapping[str, int] | None = None,
    ) -> None:
        """Begin with nothing to do.

        Args:
            store: where the files go.
            http: how to ask.
            on_bytes: told of every change in how many bytes are here, what an earlier run left included; the sum is the
                files' size in the end. Negative when bytes were thrown away. Called by many threads, one at a time.
            rates: bytes/s that a mirror (host:port) was seen to give with all its connections.
            per_minute: the requests that the operator of a mirror (host:port) allows.
        """
        self._store = store
        self._schedule = Schedule(rates, per_minute)
        self._crew = Crew(http, self._schedule)
        self._on_bytes = on_bytes or (lambda _count: None)
        self._telling = threading.Lock()
        self._wanted: dict[str, Download] = {}
        self._waiting: dict[Keeper, float] = {}  # not before that time
        self._open = 0

    def __enter__(self) -> Downloads:
        self._crew.start(self._admit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.close()
        for download in self._wanted.values():
            download.fail(MirrorError(f"the download of {download.artifact.name} was ended", "what came in is kept"))

    @property
    def dropped(self) -> Mapping[str, str]:
        """The mirrors (host:port) that gave wrong bytes, with the reason. Nothing more is fetched from them."""
        with self._crew.lock:
            mirrors = self._schedule.mirrors.values()
            return {mirror.netloc: mirror.dropped for mirror in mirrors if mirror.dropped is not None}

    @property
    def received(self) -> Mapping[str, int]:
        """The bytes that each mirror (host:port) gave so far, thrown-away ones included."""
        with self._crew.lock:
            return sum((download.job.received for download in self._wanted.values()), Counter())

    @property
    def fetched(self) -> tuple[Fetched, ...]:
        """The files that are in the store by now, in the order in which they were wanted."""
        with self._crew.lock:
            return tuple(fetched for download in self._wanted.values() if (fetched := download.fetched) is not None)

    @property
    def flow(self) -> Mapping[str, Mapping[float, int]]:
        """What came when from each mirror (host:port): bytes in the FLOW_SECONDS from that monotonic time on."""
        with self._crew.lock:
            return {
                mirror.netloc: {slot * FLOW_SECONDS: count for slot, count in sorted(mirror.flow.items())}
                for mirror in self._schedule.mirrors.values()
                if mirror.flow
            }

    def want(self, artifact: Artifact, urls: Sequence[str]) -> Download:
        """Begin to fetch a file. Does not wait; one that was wanted before is not fetched again.

        Args:
            artifact: which file.
            urls: https, file, or http on this machine; best first. The first few that work are used at the same time.
                Others are not asked; the reason stands in the error if all fail.
        """
        with self._crew.lock:
            download = self._wanted.get(artifact.sha256)
            if download is None:
                download = Download(artifact, Job(artifact.size, [*map(self._source, urls)]), self._crew.lock)
                self._wanted[artifact.sha256] = download
                self._waiting[Keeper(download, self._crew, self._store, self._tell)] = 0.0
                self._admit()
            return download

    def _source(self, url: str) -> Source:
        if reason := refusal(url):
            return Source(url, self._schedule.mirror("nobody"), rank=Rank.OUT, reasons=[reason])
        return Source(url, self._schedule.mirror(host(url) or "local"))

    def _admit(self) -> None:
        """Open what somebody reads, and the largest others, as many as may be open. The lock is held."""
        now = time.monotonic()
        ready = [keeper for keeper, when in self._waiting.items() if when <= now]
        ready.sort(key=lambda keeper: (-keeper.download.job.readers, -(keeper.download.artifact.size or 0)))
        for keeper in ready:
            if self._open >= AT_ONCE and not keeper.download.job.readers:
                break
            del self._waiting[keeper]
            self._open += 1
            self._crew.spawn(partial(self._keep, keeper), "i2v-file")

    def _keep(self, keeper: Keeper) -> None:
        """One file, from what is there of it to the store."""
        again = False
        try:
            keeper.keep()
        except Busy:
            again = True
        except Interrupted:
            pass  # the end of all downloads; __exit__ says so
        except Exception as error:  # noqa: BLE001  # for whoever asks for the result
            keeper.download.fail(error)
        with self._crew.lock:
            self._open -= 1
            if again:
                self._waiting[keeper] = time.monotonic() + BUSY_PAUSE
            if not self._crew.closing:
                self._admit()

    def _tell(self, count: int) -> None:
        if count:
            with self._telling:
                self._on_bytes(count)


def fetch(
    artifact: Artifact,
    sources: Sequence[str],
    store: Store,
    http: HttpSettings,
    on_bytes: Callable[[int], None] | None = None,
) -> Fetched:
    """Get one file into the store.

    Args:
        artifact: what is wanted.
        sources: https URLs (or file URLs, or http on this machine) of that file, best first.
        store: where it goes.
        http: how to ask.
        on_bytes: as for Downloads.

    Raises:
        FetchFailed: no source gave it; says why for each.
        NoSpace: the disk is full.
        MirrorError: the store cannot be written.
    """
    with Downloads(store, http, on_bytes) as downloads:
        return downloads.want(artifact, sources).result()
