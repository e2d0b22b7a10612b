from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import pip_settings


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A user with a home of their own and no system-wide settings of theirs."""
    return {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "etc")}


def only(settings: pip_settings.PipSettings, tmp_path: Path) -> list[str]:
    """The sources below the test's directory: the machine may have a pip.conf of its own."""
    return [source for source in settings.sources if source.startswith(str(tmp_path)) or source == "environment"]


def test_the_users_file_goes_over_the_systems_and_the_environment_over_both(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    write(
        tmp_path / "etc/pip/pip.conf",
        "[global]\nindex-url = https://system.example/simple\nproxy = http://system.example:3128\n",
    )
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = https://user.example/simple\n")
    found = pip_settings.read(environ)
    assert (found.index_url, found.proxy) == ("https://user.example/simple", "http://system.example:3128")
    found = pip_settings.read({**environ, "PIP_INDEX_URL": "https://env.example/simple"})
    assert found.index_url == "https://env.example/simple"
    assert only(found, tmp_path)[-1] == "environment"


def test_a_named_config_file_stands_in_for_the_users(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = https://user.example/simple\n")
    named = write(tmp_path / "named.conf", "[install]\nproxy = http://proxy.example:3128\n")
    found = pip_settings.read({**environ, "PIP_CONFIG_FILE": str(named)})
    assert found.proxy == "http://proxy.example:3128"
    assert str(tmp_path / ".config/pip/pip.conf") not in found.sources


def test_the_null_device_as_config_file_means_no_files_at_all(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = https://user.example/simple\n")
    assert pip_settings.read({**environ, "PIP_CONFIG_FILE": os.devnull}) == pip_settings.PipSettings()


def test_lists_are_split_and_directories_are_found(tmp_path: Path, environ: dict[str, str]) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    text = (
        "[global]\nextra-index-url =\n    https://a.example/simple\n    https://b.example/simple\n"
        f"find-links = {wheels} https://c.example/page\ntrusted-host = a.example\nno-index = true\n"
    )
    named = write(tmp_path / "pip.conf", text)
    found = pip_settings.read({**environ, "PIP_CONFIG_FILE": str(named)})
    assert found.extra_index_urls == ("https://a.example/simple", "https://b.example/simple")
    assert list(found.find_link_directories()) == [wheels]
    assert found.trusted_hosts == ("a.example",)
    assert found.no_index


def test_a_broken_file_is_left_to_pip_to_complain_about(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / ".config/pip/pip.conf", "index-url without a section\n")
    assert only(pip_settings.read(environ), tmp_path) == []


def test_we_read_what_pip_itself_reads(tmp_path: Path) -> None:
    named = write(tmp_path / "pip.conf", "[global]\nindex-url = https://named.example/simple\ncert = /bundle.pem\n")
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PIP_CONFIG_FILE": str(named)}
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], env=environ, capture_output=True, text=True, check=True
    ).stdout
    found = pip_settings.read(environ)
    assert f"global.index-url='{found.index_url}'" in listing
    assert f"global.cert='{found.cert}'" in listing
