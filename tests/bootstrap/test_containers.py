from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import containers


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({}, {}, None),
        ({"proc/1/cgroup": "0::/init.scope"}, {}, None),
        ({".dockerenv": ""}, {}, "Docker"),
        ({"run/.containerenv": 'engine="podman-4.9.3"'}, {}, "Podman"),
        ({"run/.containerenv": 'engine="buildah-1.33.7"'}, {}, "a Podman build"),
        ({"etc/hosts": "127.0.0.1\tlocalhost buildkitsandbox"}, {}, "a Docker build"),
        ({".dockerenv": "", "proc/sys/kernel/hostname": "buildkitsandbox"}, {}, "a Docker build"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "Kubernetes"),
        ({".dockerenv": "", "var/run/secrets/kubernetes.io/x": ""}, {}, "Kubernetes"),
        ({}, {"container": "lxc"}, "LXC"),
        ({"run/systemd/container": "lxc"}, {}, "LXC"),
        ({"run/systemd/container": "systemd-nspawn"}, {}, "systemd-nspawn"),
        ({"run/systemd/container": "wsl"}, {}, None),
        ({}, {"APPTAINER_CONTAINER": "/x.sif"}, "Apptainer"),
        ({"proc/1/cgroup": "12:pids:/docker/9dc9271dc210"}, {}, "Docker"),
        ({"proc/1/cgroup": "11:memory:/kubepods/besteffort/pod1"}, {}, "Kubernetes"),
    ],
)
def test_what_a_system_runs_inside_of(
    files: dict[str, str], environ: dict[str, str], kind: str | None, tmp_path: Path
) -> None:
    assert containers.kind(tree(tmp_path, files), environ) == kind


@pytest.mark.parametrize(
    ("release", "wsl"),
    [
        ("6.8.0-87-generic", None),
        ("4.4.0-19041-Microsoft", 1),
        ("4.19.128-microsoft-standard", 2),
        ("6.6.87.2-microsoft-standard-WSL2", 2),
    ],
)
def test_which_wsl_it_is(release: str, wsl: int | None, tmp_path: Path) -> None:
    assert containers.wsl(tree(tmp_path, {"proc/sys/kernel/osrelease": release})) == wsl
