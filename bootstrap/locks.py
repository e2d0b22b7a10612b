"""Makes the locks in runtime/locks anew from runtime/requirements.in: `make lock`, for the project's developers.

`cu130.txt` holds what PyPI has (its torch for Linux is the CUDA 13.0 build, for macOS the Metal one), for every Python
and system. `cpu.txt` is the same without the CUDA packages, and with torch's CPU build, whose hashes the PyTorch
index publishes. Where that index cannot be reached, the hashes of the same version are kept, and that is said.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
import uv
from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple

from bootstrap import generations, pip_settings, spawn, torch_builds
from bootstrap.errors import SetupError
from bootstrap.sourcing import ca_bundle
from mirrors import lock

_CUDA_ONLY = re.compile(r"(nvidia-|cuda-|triton\b)")
_PIN = re.compile(r"torch==([^ \\+]+)")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
_CPU_INDEX = "https://download.pytorch.org/whl/cpu/"
_CPU_WHEEL = re.compile(r"torch-[^-]+-cp3(11|12|13)-cp3\1-manylinux_[0-9_]+_x86_64\.whl")
_PYTHON = "3.11"  # the oldest that diffusers runs on


def main() -> None:
    """Write both locks, and say what could not be refreshed."""
    cu130, cpu = (generations.lock_of(torch_builds.find(build)) for build in ("cu130", "cpu"))
    _compile(cu130.parent.parent / "requirements.in", cu130)
    text = _named(cu130.read_text(encoding="utf-8"))
    cu130.write_text(text, encoding="utf-8")
    version = _PIN.search(text)
    if version is None:
        raise SetupError("the new lock has no torch")
    wheels = _published(version[1]) or _kept(cpu, version[1])
    cpu.write_text(_without_cuda(text, version[1], wheels), encoding="utf-8")
    sys.stdout.write(f"written: {cu130}, {cpu}\n")


def _compile(requirements: Path, lock: Path) -> None:
    settings = pip_settings.read()
    env = {"UV_DEFAULT_INDEX": settings.index_url} if settings.index_url else {}
    command = [
        uv.find_uv_bin(),
        "pip",
        "compile",
        "--quiet",
        "--no-config",
        "--upgrade",
        "--universal",
        "--generate-hashes",
    ]
    command += ["--python-version", _PYTHON, "--no-header", "--no-annotate", str(requirements), "-o", str(lock)]
    done = spawn.run(command, env=env)
    if done.code != 0:
        raise SetupError(f"uv could not resolve {requirements.name}: {done.output}")


def _named(text: str) -> str:
    """The lock with the name of every wheel before its entry, so that no index is believed what a hash is of."""
    settings = pip_settings.read()
    session = requests.Session()
    session.verify = str(bundle) if (bundle := ca_bundle(settings)) else True
    index = PyPISimple(settings.index_url or PYPI_SIMPLE_ENDPOINT, session=session)
    with ThreadPoolExecutor(4) as pool:
        return "\n".join(pool.map(lambda block: _with_names(block, index), _blocks(text))) + "\n"


def _with_names(block: str, index: PyPISimple) -> str:
    hashes = {found.removeprefix("--hash=sha256:") for found in _HASH.findall(block)}
    files = index.get_project_page(block.partition("==")[0], timeout=30).packages
    names = {file.filename: file.digests["sha256"] for file in files if file.filename.endswith(".whl")}
    return _comments({name: sha256 for name, sha256 in names.items() if sha256 in hashes}) + block


def _comments(wheels: Mapping[str, str]) -> str:
    return "".join(f"# {name} sha256:{sha256}\n" for name, sha256 in sorted(wheels.items()))


def _published(version: str) -> dict[str, str]:
    """File name and sha256 of torch's CPU wheels as the PyTorch index has them; none where it cannot be reached."""
    session = requests.Session()
    bundle = ca_bundle(pip_settings.read())
    session.verify = str(bundle) if bundle else True
    try:
        page = PyPISimple(_CPU_INDEX, session=session).get_project_page("torch", timeout=10)
    except requests.RequestException as error:
        sys.stdout.write(f"{_CPU_INDEX} cannot be reached ({type(error).__name__})\n")
        return {}
    wheels = (
        file for file in page.packages if file.version == f"{version}+cpu" and _CPU_WHEEL.fullmatch(file.filename)
    )
    return {file.filename: file.digests["sha256"] for file in wheels}


def _kept(path: Path, version: str) -> dict[str, str]:
    """The wheels that the present lock has for the same version."""
    environment = {"sys_platform": "linux", "platform_machine": "x86_64"}
    torch = next(pin for pin in lock.read(path, environment) if pin.name == "torch")
    if torch.version != f"{version}+cpu":
        raise SetupError(
            f"no hashes are known for torch {version}+cpu", "run this where the PyTorch index can be reached"
        )
    sys.stdout.write(f"kept: the hashes of torch {version}+cpu\n")
    return dict(torch.names)


def _without_cuda(text: str, version: str, wheels: Mapping[str, str]) -> str:
    """The lock without CUDA. The names of torch's wheels go in, since some mirrors list names only."""
    torch = [f"torch=={version}+cpu ; sys_platform == 'linux' and platform_machine == 'x86_64'"]
    torch += [f"    --hash=sha256:{sha256}" for sha256 in sorted(wheels.values())]
    cpu = _comments(wheels) + " \\\n".join(torch)
    kept = (block for block in _blocks(text) if not _CUDA_ONLY.match(_entry(block)))
    return "\n".join(cpu if _entry(block).startswith("torch==") else block for block in kept) + "\n"


def _entry(block: str) -> str:
    """A block from its requirement on."""
    return re.sub(r"\A(#.*\n)*", "", block)


def _blocks(text: str) -> list[str]:
    """A lock's entries, each with the comments before it."""
    blocks, lines = [], []
    for line in text.strip().splitlines():
        lines.append(line)
        if not line.startswith("#") and not line.endswith("\\"):
            blocks.append("\n".join(lines))
            lines = []
    return blocks


if __name__ == "__main__":
    main()
