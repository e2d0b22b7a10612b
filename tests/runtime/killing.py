"""A server under load whose processes are killed, and the log that its database keeps of what became of every job.

Knows the server by HTTP, by its database file and by its processes alone.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import av
import psutil
import requests

from runtime.jobs import JobStore
from tests.runtime.conftest import SMALL, Server, wait_until

Target = Literal["worker", "forkserver", "server", "server and worker", "all"]
#: Of a hundred kills: a server's costs several times as much time as a worker's.
MIX: Mapping[Target, int] = {"worker": 80, "forkserver": 4, "server": 8, "server and worker": 4, "all": 4}

#: Seconds within which a job that was acknowledged must come to its end, however often it is interrupted.
_PATIENCE = 600

_LOG = """
CREATE TABLE log (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    job      TEXT, was TEXT, became TEXT, attempts INTEGER, lease INTEGER, code TEXT,
    kill     INTEGER
);
CREATE TRIGGER log_new AFTER INSERT ON jobs BEGIN
    INSERT INTO log (job, became, attempts, lease) VALUES (new.id, new.status, new.attempts, new.lease);
END;
CREATE TRIGGER log_changed AFTER UPDATE OF status ON jobs BEGIN
    INSERT INTO log (job, was, became, attempts, lease, code)
    VALUES (new.id, old.status, new.status, new.attempts, new.lease, new.error_code);
END;
CREATE TRIGGER log_gone AFTER DELETE ON jobs BEGIN
    INSERT INTO log (job, was, became, attempts, lease) VALUES (old.id, old.status, 'gone', old.attempts, old.lease);
END;
"""


@dataclass(frozen=True)
class Change:
    """One change of one job's status, in the order in which the database saw them. A new job was None."""

    number: int
    job: str
    was: str | None
    became: str
    attempts: int
    lease: int
    code: str | None


@dataclass(frozen=True)
class Window:
    """From just before a kill until everything that it ended has been replaced, as numbers of the log."""

    opened: int
    closed: int

    def touches(self, began: Change, ended: Change) -> bool:
        return self.opened < ended.number and began.number < self.closed


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job, from its claim to whatever ended it."""

    began: Change
    ended: Change

    @property
    def broken_off(self) -> bool:
        """Whether it counted and came to nothing: what a kill does, and what nothing else may do here."""
        if self.ended.became == "queued":
            return self.ended.attempts == self.began.attempts
        return self.ended.code == "attempts_exhausted"


class Log:
    """What the database of a server writes down by triggers of our own, and what the killer adds between the lines."""

    def __init__(self, data_dir: Path) -> None:
        """Makes the database as a server would, before there is one."""
        self._path = data_dir / "jobs.sqlite3"
        JobStore(data_dir).close()
        with self._opened() as database:
            database.executescript(_LOG)

    def kill_begins(self, kill: int) -> None:
        self._note(kill)

    def kill_is_over(self, kill: int) -> None:
        self._note(kill)

    def changes(self) -> list[Change]:
        columns = "number, job, was, became, attempts, lease, code"
        with self._opened() as database:
            rows = database.execute(f"SELECT {columns} FROM log WHERE job IS NOT NULL ORDER BY number")
            return [Change(*row) for row in rows]

    def attempts(self) -> dict[str, list[Attempt]]:
        """Those at each job. Every change of status is part of one: no other is possible."""
        found: dict[str, list[Attempt]] = {}
        began: dict[str, Change] = {}
        for change in self.changes():
            if change.was is None:
                assert (change.became, change.job in found) == ("queued", False), change
                found[change.job] = []
            elif change.became == "in_progress":
                assert (change.was, change.job in began) == ("queued", False), change
                began[change.job] = change
            else:
                assert change.was == "in_progress", change
                found[change.job].append(Attempt(began.pop(change.job), change))
        assert not began
        return found

    def windows(self) -> list[Window]:
        with self._opened() as database:
            rows = database.execute("SELECT min(number), max(number) FROM log WHERE kill IS NOT NULL GROUP BY kill")
            return [Window(*row) for row in rows]

    def _note(self, kill: int) -> None:
        with self._opened() as database:
            database.execute("INSERT INTO log (kill) VALUES (?)", (kill,))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """For a moment: a server that is started after a kill is to recover its database by itself."""
        with contextlib.closing(sqlite3.connect(self._path, timeout=60)) as database, database:
            yield database


@dataclass
class Load:
    """Clients that send jobs, ask for them and fetch their videos, and hold the server to what it told them."""

    server: Server
    seed: int
    clients: int = 4
    acknowledged: dict[str, str] = field(default_factory=dict)  # the key of each, by its id
    fetched: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._enough, self._given_up = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        """They send nothing more, and wait for all that they sent."""
        self._enough.set()
        if failure:
            self._given_up.set()
        for thread in self._threads:
            thread.join()

    def _work(self, client: int) -> None:
        chance = random.Random(f"{self.seed} {client}")
        sent = 0
        try:
            while not self._enough.is_set():
                pair = [self._send(f"{client}-{sent + number}", chance) for number in (1, 2)]
                sent += len(pair)
                for video in pair:
                    self._wait_for(video)
        except AssertionError as fault:
            self.faults.append(f"client {client}: {fault}")

    def _send(self, key: str, chance: random.Random) -> str:
        """Sends one job until it is acknowledged: again with the same key where the answer was lost."""
        fields = {**SMALL, "num_inference_steps": str(chance.choice((2, 5, 20))), "seed": ""}
        while True:
            answer = self._answer(lambda: self.server.post(fields, headers={"Idempotency-Key": key}))
            if answer.status_code not in (429, 503):
                assert answer.status_code in (200, 202), answer.text
                video = str(answer.json()["id"])
                assert video not in self.acknowledged, f"{key} and {self.acknowledged[video]} are one job"
                self.acknowledged[video] = key
                return video
            time.sleep(0.2)

    def _wait_for(self, video: str) -> None:
        patience = time.monotonic() + _PATIENCE
        while True:
            answer = self._answer(lambda: self.server.request("GET", f"/v1/videos/{video}"))
            assert answer.status_code == 200, f"{video} is lost: {answer.text}"
            if answer.json()["status"] not in ("queued", "in_progress"):
                break
            assert time.monotonic() < patience, f"{video} is never made: {answer.text}"
            time.sleep(0.15)
        if answer.json()["status"] == "completed":
            content = self._answer(lambda: self.server.request("GET", f"/v1/videos/{video}/content"))
            assert content.status_code == 200, f"{video} is completed, but: {content.text}"
            self.fetched[video] = content.content

    def _answer(self, ask: Callable[[], requests.Response]) -> requests.Response:
        """The answer as soon as there is a server that lives for long enough to give one."""
        while True:
            assert not self._given_up.is_set(), "the test has failed already"
            try:
                return ask()
            except requests.RequestException:
                time.sleep(0.1)


class Killer:
    """Ends processes of a server with SIGKILL, starts the server again where it is gone, and logs both."""

    def __init__(self, server: Server, log: Log) -> None:
        self.seen: set[psutil.Process] = set()
        self._server = server
        self._log = log
        self._kills = 0
        self._open: list[int] = []
        self._killed: set[psutil.Process] = set()

    def kill(self, target: Target) -> None:
        """One kill. What it ended is not replaced yet when this returns; but there is a server."""
        victims = wait_until(lambda: self._find(target))
        self._kills += 1
        self._log.kill_begins(self._kills)
        self._open.append(self._kills)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        self._killed |= set(victims)
        if target in ("worker", "forkserver"):
            wait_until(lambda: all(map(is_dead, victims)))
        else:
            self._server.process.wait()
            self._server.start()

    def wait_until_replaced(self) -> None:
        """Until a worker that no kill has reached is ready for jobs."""
        wait_until(self._is_whole)
        for kill in self._open:
            self._log.kill_is_over(kill)
        self._open = []

    def worker_at(self, video: str, attempt: int) -> None:
        """Kills the worker when it is seen at work on the attempt of this number at this video."""
        self._server.wait_for_step(video, attempt)
        self.kill("worker")
        self.wait_until_replaced()

    def _is_whole(self) -> bool:
        try:
            ready = self._server.request("GET", "/ready").status_code == 200
        except requests.RequestException:
            return False
        workers = self._workers()
        return ready and bool(workers) and not self._killed & set(workers)

    def _find(self, target: Target) -> list[psutil.Process]:
        """The processes to kill; none while one is missing, as a worker is that another kill has just ended."""
        server, forkservers, workers = self._parent(), self._forkservers(), self._workers()
        found = {
            "worker": workers,
            "forkserver": forkservers,
            "server": [server],
            "server and worker": [server, *workers] if workers else [],
            "all": [server, *forkservers, *workers],
        }
        return [] if self._killed & set(found[target]) else found[target]

    def _parent(self) -> psutil.Process:
        process = psutil.Process(self._server.process.pid)
        self.seen.add(process)
        return process

    def _forkservers(self) -> list[psutil.Process]:
        return [child for child in self._children(self._parent()) if "forkserver" in " ".join(child.cmdline())]

    def _workers(self) -> list[psutil.Process]:
        return [worker for forkserver in self._forkservers() for worker in self._children(forkserver)]

    def _children(self, process: psutil.Process) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = [child for child in process.children() if not is_dead(child)]
            self.seen |= set(children)
            return children
        return []


def is_dead(process: psutil.Process) -> bool:
    """Whether it runs no more, waited for or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def targets(number: int, chance: random.Random) -> Sequence[Target]:
    """So many targets, mixed as in `MIX`, whatever the chance; their order is left to it."""
    per_hundred = [target for target, share in MIX.items() for _ in range(share)]
    evenly = [per_hundred[place * 100 // number % 100] for place in range(number)]
    chance.shuffle(evenly)
    return evenly


def frames_in(video: Path) -> int:
    """How many frames of a video can be decoded."""
    with av.open(video) as container:
        return sum(1 for _ in container.decode(video=0))
