"""The built-in solver and installer, as a process of its own: everything that touches py-rattler is here.

    python -m bootstrap.backends.rattler_child REQUEST.json

The request is `{"act": "solve" | "gather" | "claims" | "install", …}`, what follows is said at each act below. Answers
are JSON lines on stdout: `{"event": "progress", "done", "total", "note"}`, and at the end `{"event": "done", …}` or
`{"event": "error", "message", "kind"}`. It is a process of its own because py-rattler has ended the interpreter's exit
with a crash, and so that a kill takes nothing else along. It asks the addresses in the request and nobody else, reads
no configuration of the user's, and runs no script of a package. Knows nothing of mirrors, nor which hashes to believe.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rattler import (
    Channel,
    Client,
    Gateway,
    GenericVirtualPackage,
    PackageRecord,
    RepoDataRecord,
    SourceConfig,
    VirtualPackage,
    VirtualPackageOverrides,
    install,
    solve,
)
from rattler.exceptions import SolverError
from rattler.install import InstallerReporter

Request = Mapping[str, Any]
_SECONDS = 900  # for one request of the client's: what is too slow is found out by whoever runs us, and relays


def tell(event: str, **more: Any) -> None:
    """One line of the answer."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def main() -> NoReturn:
    """Carry out the request in the file that is named on the command line."""
    code = 0
    try:
        request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        tell("done", **asyncio.run(_ACTS[request["act"]](request)))
    except Exception as error:  # noqa: BLE001  # the library's own errors have no common base
        kind = "no solution" if isinstance(error, SolverError) else "failed"
        tell("error", message=" ".join(str(error).split()), kind=kind)
        code = 1
    os._exit(code)  # not by way of the interpreter's end, where py-rattler has crashed


async def _solve(request: Request) -> Mapping[str, Any]:
    """Which packages fulfil `specs`. Takes `channels` (addresses by name), `subdir`, `specs`, `cache`, `sharded`."""
    records = await solve(
        _channels(request),
        request["specs"],
        gateway=_gateway(request),
        platforms=_subdirs(request),
        virtual_packages=_virtual_packages(),
        channel_relations="disabled",  # a channel must not bring in others
    )
    return {"packages": _claims_of(_sorted(records), request)}


async def _gather(request: Request) -> Mapping[str, Any]:
    """All records that a solver may need for `specs`, written as channels below `out`. Takes the same, and `out`."""
    records = await _query(request, recursive=True)
    by_place: dict[tuple[str, str], list[RepoDataRecord]] = {
        (name, subdir): [] for name in request["channels"] for subdir in _subdirs(request)
    }
    names = _names(request)
    for record in records:
        by_place[names[record.channel.rstrip("/")], record.subdir].append(record)
    for (name, subdir), placed in by_place.items():
        directory = Path(request["out"]) / request["directories"][name] / subdir
        directory.mkdir(parents=True)
        (directory / "repodata.json").write_text(json.dumps(_repodata(subdir, placed)), encoding="utf-8")
    return {"packages": _claims_of(records, request)}


async def _claims(request: Request) -> Mapping[str, Any]:
    """What the one channel in `channels` says of the packages with the names in `specs`."""
    wanted = set(request["files"])
    records = await _query(request, recursive=False)
    return {"packages": _claims_of([it for it in records if f"{it.subdir}/{it.file_name}" in wanted], request)}


async def _install(request: Request) -> Mapping[str, Any]:
    """Make the package files in `files` the contents of the empty `prefix`. Takes `cache`, for what they unpack to.

    They are taken as they are: the library does not check a local file's hash.
    """
    records = [await RepoDataRecord.from_package_archive(path) for path in request["files"]]
    await install(
        records,
        request["prefix"],
        cache_dir=Path(request["cache"]),
        execute_link_scripts=False,
        client=Client(timeout=_SECONDS),
        reporter=_Reporter(len(records)),  # type: ignore[abstract]  # what it leaves out does nothing
    )
    return {"packages": len(records)}


_ACTS = {"solve": _solve, "gather": _gather, "claims": _claims, "install": _install}


class _Reporter(InstallerReporter):
    """Tells how many packages are linked, and what is being done."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        tell("progress", done=self.done, total=self.total, note=f"unpack {package_name}")
        return operation

    def on_link_start(self, operation: int, package_name: str) -> int:
        tell("progress", done=self.done, total=self.total, note=f"link {package_name}")
        return operation

    def on_link_complete(self, index: int) -> None:  # noqa: ARG002  # the library names it
        self.done += 1
        tell("progress", done=self.done, total=self.total, note="")


def _channels(request: Request) -> list[Channel]:
    return [Channel(url) for url in request["channels"].values()]


async def _query(request: Request, *, recursive: bool) -> list[RepoDataRecord]:
    found = await _gateway(request).query(
        _channels(request), _subdirs(request), request["specs"], recursive=recursive, channel_relations="disabled"
    )
    return [record for part in found for record in part]


def _names(request: Request) -> dict[str, str]:
    """The channels' names by the addresses that records carry."""
    return {url.rstrip("/"): name for name, url in request["channels"].items()}


def _subdirs(request: Request) -> list[Any]:
    return [request["subdir"], "noarch"]


def _gateway(request: Request) -> Gateway:
    config = SourceConfig(sharded_enabled=request["sharded"])
    return Gateway(cache_dir=Path(request["cache"]), default_config=config, client=Client(timeout=_SECONDS))


def _virtual_packages() -> list[GenericVirtualPackage]:
    """What this machine has, as CONDA_OVERRIDE_CUDA and its like say it."""
    return [found.into_generic() for found in VirtualPackage.detect(VirtualPackageOverrides.from_env())]


def _sorted(records: Sequence[RepoDataRecord]) -> list[RepoDataRecord]:
    """Dependencies first, for installers that go by the order of a list."""
    place = {
        record.name.normalized: number for number, record in enumerate(PackageRecord.sort_topologically([*records]))
    }
    return sorted(records, key=lambda record: place[record.name.normalized])


def _claims_of(records: Iterable[RepoDataRecord], request: Request) -> list[dict[str, Any]]:
    names = _names(request)
    return [
        {
            "channel": names[record.channel.rstrip("/")],
            "subdir": record.subdir,
            "filename": record.file_name,
            "sha256": record.sha256.hex() if record.sha256 else None,
            "size": record.size,
        }
        for record in records
    ]


def _repodata(subdir: str, records: Iterable[RepoDataRecord]) -> dict[str, Any]:
    packages: dict[str, dict[str, Any]] = {"packages": {}, "packages.conda": {}}
    for record in records:
        row = json.loads(record.to_json())
        filename = row.pop("fn")
        for ours in ("url", "channel"):
            del row[ours]
        packages["packages.conda" if filename.endswith(".conda") else "packages"][filename] = row
    return {"info": {"subdir": subdir}, **packages, "removed": [], "repodata_version": 1}


if __name__ == "__main__":
    main()
