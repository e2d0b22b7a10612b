"""The mirrors commands: list what is known, measure it, and write a mirror into the tools' configuration files."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bootstrap import config_files, current, machine, mirror_samples, recommend, sourcing
from bootstrap import configs as journal
from bootstrap.configs import Edit
from bootstrap.console import Console
from bootstrap.errors import UsageProblem
from bootstrap.machine import Machine
from bootstrap.state import Home
from bootstrap.torch_builds import TorchBuild
from mirrors import catalogue, choose, configs, urls
from mirrors.catalogue import Kind, Mirror
from mirrors.errors import BadMirror
from mirrors.probe import Measurement

# What is written for a kind, and what to do by hand for the others.
_WRITTEN: Mapping[Kind, tuple[str, ...]] = {
    "pypi": ("pip.conf", "uv.toml"),
    "pytorch": ("uv.toml",),
    "conda": (".condarc", ".mambarc"),
}
_BY_HAND: Mapping[Kind, str] = {
    "docker": "name it under registry-mirrors in /etc/docker/daemon.json, and restart Docker",
    "hub": "set HF_ENDPOINT to its address; i2v-setup itself asks all hubs that it knows",
    "apt": "put its address into /etc/apt/sources.list, or the files of /etc/apt/sources.list.d",
    "python": "set UV_PYTHON_INSTALL_MIRROR to its address",
}


def known(home: Home, kind: str | None) -> list[Mirror]:
    """The catalogue with the user's own rows, of one kind or of all.

    Raises:
        UsageProblem: there is no such kind. BadMirror: the user's catalogue cannot be read.
    """
    kinds = catalogue.KINDS if kind is None else (mirror_samples.kind_of(kind),)
    return [mirror for name in kinds for mirror in catalogue.mirrors(name, home.user_mirrors)]


def as_document(mirrors: Sequence[Mirror]) -> list[dict[str, Any]]:
    """The mirrors as data, for programs; without credentials."""
    return [{**asdict(mirror), "url": urls.shown(mirror.url)} for mirror in mirrors]


def test(home: Home, kind: str, named: Sequence[str], console: Console) -> list[Measurement]:
    """Measure the mirrors of a kind that were named by id or URL, or all of them. Changes nothing, keeps nothing.

    Raises:
        UsageProblem: there is no such kind. UnknownMirror, BadMirror: no such mirror, or it cannot be used.
    """
    bench = _bench(mirror_samples.kind_of(kind), home, console)
    rows = [mirror for which in (named or ("auto",)) for mirror in bench.candidates(which)]
    with console.working(f"measure {len(rows)} {kind} mirror{'s' * (len(rows) != 1)}"):
        return bench.measure(rows)


def measured(found: Sequence[Measurement]) -> list[dict[str, Any]]:
    """The measurements as data, for programs; without credentials. Seconds, bytes, bytes/s."""
    return [
        {
            "kind": it.mirror.kind,
            "id": it.mirror.id,
            "url": urls.shown(it.mirror.url),
            "verdict": it.verdict,
            "reason": it.reason,
            "latency": it.latency,
            "rate": it.rate,
            "requests": it.requests,
            "probe_bytes": it.probe_bytes,
        }
        for it in found
    ]


def use(home: Home, which: str, kind: str, scope: str, *, dry_run: bool, console: Console) -> Iterator[str]:
    """Measure a mirror, and write it into the files of the current environment or of the user; lines for a person.

    Raises:
        UsageProblem: mirrors of this kind are not written by us.
        UnknownMirror, BadMirror, NoMirror: no such mirror, or it cannot be used from here.
        BadConfig, SetupError: a file cannot be edited, or nothing is installed. Nothing is written then.
    """
    which_kind = _writable(kind)
    files = config_files.of_environment(current.current(home).path) if scope == "env" else config_files.of_user()
    bench = _bench(which_kind, home, console)
    candidates = _tools_can_read(bench.candidates(which))
    with console.working(f"measure {candidates[0].name if len(candidates) == 1 else f'{len(candidates)} mirrors'}"):
        measurements = bench.measure(candidates)
    mirror = choose.choose(measurements, bench.build.index_bytes).mirror
    yield f"{mirror.name}: {urls.shown(mirror.url)}"
    edits = [_edit(mirror, name, files[name], bench.build) for name in _WRITTEN[which_kind]]
    if dry_run:
        yield from filter(None, map(_difference, edits)) if any(map(_changes, edits)) else ("nothing to change",)
        return
    written = journal.apply(edits, home.journal)
    yield from (f"written: {path}" for path in written)
    if not written:
        yield "nothing to change"
    if which_kind == "pytorch":
        yield from _how_to_ask(mirror, bench.build)
    for name in _WRITTEN[which_kind]:
        for variable in config_files.stronger(name):
            console.warn(f"{variable} is set in the environment, and wins over {files[name]}")


@dataclass(frozen=True)
class _Bench:
    """What mirrors of a kind are measured with, on this machine."""

    kind: Kind
    home: Home
    machine: Machine
    build: TorchBuild

    def candidates(self, which: str) -> tuple[Mirror, ...]:
        return mirror_samples.candidates(self.kind, which, self.machine, self.build, self.home.user_mirrors)

    def measure(self, mirrors: Sequence[Mirror]) -> list[Measurement]:
        return mirror_samples.measure(self.kind, mirrors, self.build, sourcing.http_settings(self.machine.pip))


def _bench(kind: Kind, home: Home, console: Console) -> _Bench:
    with console.working("detect the machine"):
        here = machine.detect()
    return _Bench(kind, home, here, recommend.recommend(here).torch.build)


def _writable(name: str) -> Kind:
    kind = mirror_samples.kind_of(name)
    if kind not in _WRITTEN:
        raise UsageProblem(f"a {kind} mirror is not a setting of pip, uv, conda or mamba", _BY_HAND[kind])
    return kind


def _tools_can_read(mirrors: Sequence[Mirror]) -> tuple[Mirror, ...]:
    """Those that can stand in the files; i2v-setup itself reads more, such as a directory full of wheels.

    Raises:
        BadMirror: there are none.
    """
    readable = tuple(mirror for mirror in mirrors if not _holds_wheels_only(mirror))
    if not readable:
        raise BadMirror(
            f"{urls.shown(mirrors[0].url)} is a directory of wheels, not an index as pip and uv expect one",
            "name it as find-links in pip.conf and uv.toml instead, or give it a page DIR/PROJECT/index.html a project",
        )
    return readable


def _holds_wheels_only(mirror: Mirror) -> bool:
    if mirror.kind == "conda" or not mirror.url.startswith("file:"):
        return False
    directory = Path(url2pathname(urlsplit(mirror.url).path))
    return directory.is_dir() and next(directory.glob("*/index.html"), None) is None


def _edit(mirror: Mirror, name: str, path: Path, build: TorchBuild) -> Edit:
    old = journal.read(path)
    return Edit(path, _text(mirror, name, old, str(path), build), old, private=True)


def _text(mirror: Mirror, name: str, old: str, path: str, build: TorchBuild) -> str:
    if mirror.kind == "pytorch":
        variant = mirror_samples.torch_variant(build)
        return configs.uv_toml_pytorch(old, mirror.url, variant, path, flat=mirror.layout == "flat")
    if mirror.kind == "conda":
        return configs.condarc(old, catalogue.channel_base(mirror), path)
    return (configs.uv_toml if name == "uv.toml" else configs.pip_conf)(old, mirror.url, path)


def _how_to_ask(mirror: Mirror, build: TorchBuild) -> Iterator[str]:
    option, url = "--find-links" if mirror.layout == "flat" else "--index-url", urls.shown(mirror.url)
    yield (
        "uv asks it only where it is named, so that it cannot stand in for other packages: "
        f"uv pip install --index pytorch-{mirror_samples.torch_variant(build)} torch"
    )
    yield f"pip has no index for one package only, so pip.conf stays: pip install {option} {url} torch"


def _changes(edit: Edit) -> bool:
    return edit.new_text != edit.old_text


def _difference(edit: Edit) -> str:
    old, new = urls.redact(edit.old_text or ""), urls.redact(edit.new_text)
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), str(edit.path), f"{edit.path} (new)", lineterm="")
    return "\n".join(lines)
