"""Where an environment gets its packages from, and the configuration files that say so.

The mirror that was chosen comes first; what the user's own pip settings add (further indexes, local directories, a
certificate, a proxy) is carried over, since uv does not read pip's configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import tomlkit

from bootstrap.pip_settings import PipSettings
from mirrors import catalogue, configs, urls
from mirrors.choose import Choice, rates, requests_per_minute
from mirrors.errors import BadMirror
from mirrors.http import HttpSettings
from mirrors.resolve import Index
from mirrors.rows import Layout


@dataclass(frozen=True)
class PackageSources:
    """One default index, and what stands beside it. URLs may carry credentials, so they stay out of the repr.

    Attributes:
        name: of the default index.
        index_url: the default index, for the environment's own configuration, as what follows.
        extra_index_urls: further indexes.
        find_links: local directories and flat pages of wheels.
        cert: a CA bundle.
        proxy: for all requests.
        conda_channel: the URL below which conda's channels lie.
        indexes: all that an installation takes wheels from, best first.
        rates: what was measured, in bytes/s by host.
        per_minute: the requests that operators allow, by host.
        reason: why these: a sentence for people.
        choices: what they come from: of the indexes, and of those for torch's own wheels if there are any.
    """

    name: str
    index_url: str = field(repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    cert: str | None = None
    proxy: str | None = field(default=None, repr=False)
    conda_channel: str | None = None
    indexes: tuple[Index, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    per_minute: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    choices: tuple[Choice, ...] = field(default=(), repr=False)

    @property
    def label(self) -> str:
        """The indexes for people: the default one's name and URL without credentials, and how many help it."""
        others = {index.mirror.id for index in self.indexes if index.sample} - {self.name}
        beside = f" and {len(others)} more" if others else ""
        return f"{self.name} ({urls.shown(self.index_url)}){beside}"

    def environ(self) -> dict[str, str]:
        """What a client needs in its environment: the certificate and the proxy that the mirrors were measured with."""
        cert = {"SSL_CERT_FILE": self.cert} if self.cert else {}
        return cert | ({"HTTP_PROXY": self.proxy, "HTTPS_PROXY": self.proxy} if self.proxy else {})

    def config_files(self) -> dict[str, str]:
        """The environment's own files by name: pip.conf, uv.toml, .condarc, .mambarc."""
        files = {
            "pip.conf": configs.pip_conf(self._pip(), self.index_url),
            "uv.toml": configs.uv_toml(self._uv(), self.index_url),
        }
        if self.conda_channel:
            files[".condarc"] = configs.condarc("", self.conda_channel)
            files[".mambarc"] = configs.mambarc("", self.conda_channel)
        return files

    def _pip(self) -> str:
        keys = {
            "extra-index-url": "\n    ".join(self.extra_index_urls),
            "find-links": "\n    ".join(self.find_links),
            "cert": self.cert,
        }
        return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items() if value)

    def _uv(self) -> str:
        document = tomlkit.document()
        if self.find_links:
            document["find-links"] = list(self.find_links)
        indexes = tomlkit.aot()
        for url in self.extra_index_urls:
            indexes.append(tomlkit.item({"url": url}))
        if indexes:
            document["index"] = indexes
        return tomlkit.dumps(document)


def sources(
    pip: PipSettings, http: HttpSettings, indexes: Choice, torch: Choice | None, conda_channel: str | None
) -> PackageSources:
    """Put the chosen indexes, those for torch's own wheels and the user's pip settings together.

    Certificate and proxy are those that the mirrors were measured with.
    """
    chosen, builds = indexes.mirror, torch.mirror if torch else None
    if Index(chosen).directory is not None:  # no client can use a directory of wheels as its index
        default = pip.index_url or catalogue.find("upstream").url
        pip = replace(pip, find_links=(chosen.url, *pip.find_links))
    else:
        default = chosen.url
    flat = (builds.url,) if builds and builds.layout == "flat" else ()
    simple = (builds.url,) if builds and builds.layout == "simple" else ()
    links = (*flat, *(link if "://" in link else str(Path(link).expanduser()) for link in pip.find_links))
    extras = tuple(url for url in (*simple, *pip.extra_index_urls) if url != default)
    cert = str(http.ca_bundle) if http.ca_bundle else None
    proxy = (http.proxies or {}).get("https")
    measured = (*indexes.sources, *(torch.sources if torch else ()))
    return PackageSources(
        chosen.id,
        default,
        extras,
        links,
        cert,
        proxy,
        conda_channel,
        indexes=(*directories(pip), *(Index(found.mirror, found.url) for found in measured), *_further(pip)),
        rates=rates(measured),
        per_minute=requests_per_minute(measured),
        reason=indexes.reason,
        choices=(indexes,) if torch is None else (indexes, torch),
    )


def directories(pip: PipSettings) -> tuple[Index, ...]:
    """The local directories of wheels that pip's settings name."""
    return tuple(
        Index(catalogue.adhoc(path.resolve().as_uri(), path.name, layout="flat"))
        for path in pip.find_link_directories()
    )


def _further(pip: PipSettings) -> Sequence[Index]:
    """The indexes and pages that pip's settings add; not those that we do not use, such as plain http."""
    layouts: list[tuple[str, Layout]] = [(url, "simple") for url in pip.extra_index_urls]
    layouts += [(link, "flat") for link in pip.find_links if link.startswith(("https:", "http:"))]
    found = []
    for url, layout in layouts:
        with suppress(BadMirror):
            found.append(Index(catalogue.adhoc(url, urls.shown(url), layout=layout)))
    return found
