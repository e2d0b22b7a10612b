"""What indexes publish of the locked packages: the names and sha256 of wheels, and what torch's own ones require."""

from __future__ import annotations

import re
from collections.abc import Sequence
from email import message_from_bytes

import requests
from pypi_simple import PYPI_SIMPLE_ENDPOINT, DistributionPackage, PyPISimple

from bootstrap import pip_settings
from bootstrap.sourcing import ca_bundle
from mirrors import catalogue

CUDA_ONLY = re.compile(r"(nvidia-|cuda-|triton\b)")
"""Begins the name of a package that only some builds of torch require."""


class Index:
    """An index that is asked for pages, with the certificates that the user's own pip settings name."""

    def __init__(self, url: str) -> None:
        self.url = url
        bundle = ca_bundle(pip_settings.read())
        session = requests.Session()
        session.verify = str(bundle) if bundle else True
        self._client = PyPISimple(url, session=session)

    def wheels(self, project: str) -> dict[str, str]:
        """The sha256 of each wheel of a project, by its file name."""
        return {
            file.filename: file.digests["sha256"]
            for file in self._files(project)
            if file.filename.endswith(".whl") and "sha256" in file.digests
        }

    def requires(self, project: str, version: str) -> tuple[str, ...]:
        """What a version requires of the packages that only some builds do, as its first wheel says itself."""
        file = next(file for file in self._files(project) if file.version == version)
        verify = bool(file.metadata_digests)
        metadata = message_from_bytes(self._client.get_package_metadata_bytes(file, verify=verify, timeout=30))
        required: Sequence[str] = metadata.get_all("Requires-Dist") or ()
        return tuple(line for line in required if CUDA_ONLY.match(line) and "extra ==" not in line)

    def _files(self, project: str) -> list[DistributionPackage]:
        return self._client.get_project_page(project, timeout=30).packages


def packages() -> Index:
    """The package index that the user's own pip settings name, or PyPI."""
    return Index(pip_settings.read().index_url or PYPI_SIMPLE_ENDPOINT)


def pytorch(variant: str) -> Index:
    """Where the builds of torch are published; a mirror is never asked."""
    return Index(catalogue.with_variant(catalogue.find("upstream", "pytorch"), variant).url)
