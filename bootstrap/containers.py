"""What a system runs inside of: a container engine, the building of an image, WSL, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bootstrap.small_files import text

_NAMES = {
    "docker": "Docker",
    "podman": "Podman",
    "lxc": "LXC",
    "lxc-libvirt": "LXC",
    "systemd-nspawn": "systemd-nspawn",
    "kube": "Kubernetes",
    "oci": "a container",
}
_BUILDER = "buildkitsandbox"  # the host name that BuildKit gives to the steps of a build


def kind(root: Path, environ: Mapping[str, str]) -> str | None:
    """What this is, for people; None on a machine of its own. Where several fit, the innermost.

    A build ends in the word "build": nothing of the machine that the image will run on can be seen there. WSL is no
    container: see `wsl`.
    """
    podman = text(root / "run/.containerenv")
    signs = {
        "a Docker build": _BUILDER in text(root / "etc/hosts") + text(root / "proc/sys/kernel/hostname"),
        "a Podman build": "buildah" in podman,
        "Kubernetes": "KUBERNETES_SERVICE_HOST" in environ or (root / "var/run/secrets/kubernetes.io").exists(),
        "Apptainer": bool({"APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"} & environ.keys())
        or (root / ".singularity.d").exists(),
        "Podman": (root / "run/.containerenv").exists(),
        "Docker": (root / ".dockerenv").exists(),
    }
    found = next((name for name, there in signs.items() if there), None)
    told = environ.get("container") or text(root / "run/systemd/container")
    if found is None and told and told != "wsl":
        return _NAMES.get(told, told)
    return found or _by_cgroup(text(root / "proc/1/cgroup"))


def wsl(root: Path) -> int | None:
    """1 or 2 in the Windows Subsystem for Linux: the first has no Linux kernel, and no GPU; None elsewhere."""
    release = text(root / "proc/sys/kernel/osrelease")
    if "microsoft" not in release.lower():
        return None
    return 2 if "WSL2" in release or (root / "dev/dxg").exists() or "microsoft-standard" in release else 1


def _by_cgroup(groups: str) -> str | None:
    """The engine that the control groups of the first process are named for; newer kernels do not show them."""
    for part, name in (("kubepods", "Kubernetes"), ("/docker", "Docker"), ("libpod", "Podman"), ("/lxc", "LXC")):
        if part in groups:
            return name
    return None
