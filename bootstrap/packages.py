"""Where an environment gets its packages from, and the configuration files that say so.

The mirror that was chosen comes first; what the user's own pip settings add (further indexes, local directories, a
certificate, a proxy) is carried over, since uv does not read pip's configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tomlkit

from bootstrap.pip_settings import PipSettings
from mirrors import configs, urls
from mirrors.catalogue import Mirror
from mirrors.http import HttpSettings


@dataclass(frozen=True)
class PackageSources:
    """One default index, and what stands beside it. URLs may carry credentials, so they stay out of the repr."""

    name: str
    index_url: str = field(repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    cert: str | None = None
    proxy: str | None = field(default=None, repr=False)
    conda_channel: str | None = None

    @property
    def label(self) -> str:
        """The index for people: its name and its URL without credentials."""
        return f"{self.name} ({urls.shown(self.index_url)})"

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
    pip: PipSettings, http: HttpSettings, index: Mirror, torch: Mirror | None, conda_channel: str | None
) -> PackageSources:
    """Put the chosen index, the one for torch's own wheels and the user's pip settings together.

    Certificate and proxy are those that the mirrors were measured with.
    """
    flat = (torch.url,) if torch and torch.layout == "flat" else ()
    simple = (torch.url,) if torch and torch.layout == "simple" else ()
    links = (*flat, *(link if "://" in link else str(Path(link).expanduser()) for link in pip.find_links))
    extras = tuple(url for url in (*simple, *pip.extra_index_urls) if url != index.url)
    cert = str(http.ca_bundle) if http.ca_bundle else None
    proxy = (http.proxies or {}).get("https")
    return PackageSources(index.id, index.url, extras, links, cert, proxy, conda_channel)
