"""The files for Compose and Kubernetes: held against published schemas and what we start ourselves, and started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from images import container, deploy_files, sandbox
from images.container import Container, start
from images.deployable import DRAIN, PATIENCE, Deployable
from images.engine import Engine, EngineInfo
from images.errors import ImageError
from images.inputs import shipped_recipe
from runtime.models import model
from tests.conftest import HAS_RUNTIME
from tests.images import servers

Answering = Callable[[Container], None]

_DIGEST = "sha256:" + "0123456789abcdef" * 4
_KINDS = {
    "baked": Deployable("i2v-demo:latest", model("demo"), gpu=False),
    "mounted": Deployable(
        f"registry.example:5000/i2v:1@{_DIGEST}", model("wan2.2-ti2v-5b"), gpu=True, model_dir=Path('/srv/a $b: "c"')
    ),
    "volume": Deployable(
        f"registry.example/i2v@{_DIGEST}", model("svd-xt"), gpu=True, weights_image=f"registry.example/w@{_DIGEST}"
    ),
}
each_kind = pytest.mark.parametrize("deployable", _KINDS.values(), ids=_KINDS)


def service(deployable: Deployable) -> dict[str, Any]:
    """What the Compose file says of the server."""
    document = yaml.safe_load(deploy_files.texts(deployable)["compose.yaml"])
    return dict(document["services"]["server"])


def objects(deployable: Deployable) -> dict[str, Any]:
    """The Kubernetes objects, by kind and name."""
    documents = yaml.safe_load_all(deploy_files.texts(deployable)["kubernetes.yaml"])
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in documents if one is not None}


def pod(deployable: Deployable) -> dict[str, Any]:
    return dict(objects(deployable)[f"Deployment/{deployable.name}"]["spec"]["template"]["spec"])


def fits_compose(path: Path) -> None:
    """See what the Compose specification's own schema says of the file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def for_others(text: str) -> str:
    """The Compose file with the changes that its comments ask for to let others in."""
    text = re.sub(r"^( *)# (.*  # key)$", r"\1\2", text, flags=re.MULTILINE)
    return text.replace('"127.0.0.1:$', '"$').replace('"--published-on", "127.0.0.1", ', "")


@each_kind
def test_both_are_valid_by_the_published_schemas(deployable: Deployable, tmp_path: Path) -> None:
    validate = _needed("kubernetes_validate")
    _needed("check_jsonschema")
    compose, _ = deploy_files.write(tmp_path, deployable)
    fits_compose(compose)
    for one in objects(deployable).values():
        validate.validate(one, "1.35", strict=True)
    with pytest.raises(validate.ValidationError):  # it does look
        validate.validate({**one, "spec": {"replicas": "one"}}, "1.35", strict=True)


@each_kind
def test_compose_sets_what_we_set_ourselves(deployable: Deployable) -> None:
    told, ours = (
        service(deployable),
        container._options("x", 8000, None, EngineInfo("26.1", "overlay2", 10 << 30, nvidia=False)),
    )
    for name in ("read_only", "cap_drop", "security_opt", "pids_limit", "shm_size"):
        assert told[name] == ours[name], name
    assert dict(one.split(":", 1) for one in told["tmpfs"]) == ours["tmpfs"]
    assert told["logging"] == {"driver": ours["log_config"].type, "options": ours["log_config"].config}
    assert told["ports"] == ["127.0.0.1:${I2V_PORT:-8000}:8000"]
    assert told["command"][: len(ours["command"])] == ours["command"]
    assert told["mem_limit"] == told["memswap_limit"] == f"${{I2V_MEMORY:-{deployable.memory_gib}g}}"
    assert [(one["source"], one["target"]) for one in told["volumes"][:1]] == [("data", "/data")]


@each_kind
def test_kubernetes_confines_it_as_we_do(deployable: Deployable) -> None:
    spec = pod(deployable)
    (server,) = spec["containers"]
    assert server["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == sandbox.USER
    assert f"USER {sandbox.USER}:{sandbox.USER}" in shipped_recipe().dockerfile.read_text()
    assert spec["automountServiceAccountToken"] is False
    writable = {mount["mountPath"] for mount in server["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/data", "/tmp", "/dev/shm"}
    assert {mount["name"] for mount in server["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@each_kind
def test_the_key_is_in_neither_file_and_kubernetes_wants_one(deployable: Deployable) -> None:
    (server,) = pod(deployable)["containers"]
    assert server["env"] == [{"name": "I2V_API_KEY_FILE", "value": "/run/secrets/i2v/api-key"}]
    (secret,) = (volume["secret"] for volume in pod(deployable)["volumes"] if "secret" in volume)
    assert secret == {"secretName": deployable.name, "defaultMode": 0o440}
    assert not any(kind.startswith("Secret/") for kind in objects(deployable))
    assert "--published-on" not in server["args"]


@each_kind
def test_one_server_at_a_time_has_the_jobs_and_time_to_end(deployable: Deployable) -> None:
    spec = objects(deployable)[f"Deployment/{deployable.name}"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert pod(deployable)["terminationGracePeriodSeconds"] == PATIENCE > DRAIN
    assert service(deployable)["stop_grace_period"] == f"{PATIENCE}s"


@pytest.mark.skipif(not HAS_RUNTIME, reason="the server needs the runtime's dependencies")
@each_kind
def test_the_server_knows_its_options_and_what_it_is_asked(deployable: Deployable) -> None:
    from runtime.operation import router
    from runtime.server import _parser

    (server,) = pod(deployable)["containers"]
    there = {getattr(route, "path", "") for route in router.routes}
    assert {server[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")} <= there
    assert "/ready" in service(deployable)["healthcheck"]["test"][-1]
    for arguments in (server["args"], service(deployable)["command"]):
        assert _parser().parse_args(["--model-dir", "m", "--data-dir", "d", *arguments]).drain == DRAIN


def test_weights_in_the_image_need_no_mount() -> None:
    assert len(service(_KINDS["baked"])["volumes"]) == 1
    assert "/model" not in str(pod(_KINDS["baked"]))


def test_mounted_weights_are_a_directory_or_a_claim_that_is_only_read() -> None:
    mount = service(_KINDS["mounted"])["volumes"][1]
    assert mount.pop("source") == '/srv/a $$b: "c"'  # Compose makes one $ of it
    assert mount == {"type": "bind", "target": "/model", "read_only": True, "bind": {"create_host_path": False}}
    spec = pod(_KINDS["mounted"])
    assert {"name": "model", "mountPath": "/model", "readOnly": True} in spec["containers"][0]["volumeMounts"]
    assert {"name": "model", "persistentVolumeClaim": {"claimName": "i2v-wan2-2-ti2v-5b-model"}} in spec["volumes"]
    claim = objects(_KINDS["mounted"])["PersistentVolumeClaim/i2v-wan2-2-ti2v-5b-model"]
    room = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) << 30
    assert room > model("wan2.2-ti2v-5b").weight_bytes


def test_weights_of_their_own_image_are_its_directory_model() -> None:
    mount = service(_KINDS["volume"])["volumes"][1]
    weights = f"registry.example/w@{_DIGEST}"
    assert mount == {"type": "image", "source": weights, "target": "/model", "image": {"subpath": "model"}}
    spec = pod(_KINDS["volume"])
    mounted = {"name": "model", "mountPath": "/model", "subPath": "model", "readOnly": True}
    assert mounted in spec["containers"][0]["volumeMounts"]
    assert {"name": "model", "image": {"reference": weights, "pullPolicy": "IfNotPresent"}} in spec["volumes"]


def test_a_gpu_is_asked_for_where_torch_is_for_one() -> None:
    assert service(_KINDS["volume"])["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]
    assert pod(_KINDS["volume"])["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "deploy" not in service(_KINDS["baked"])
    assert set(pod(_KINDS["baked"])["containers"][0]["resources"]["limits"]) == {"memory"}


@each_kind
def test_the_changes_that_let_others_in_are_those_of_the_comments(deployable: Deployable, tmp_path: Path) -> None:
    text = for_others(deploy_files.texts(deployable)["compose.yaml"])
    document = yaml.safe_load(text)
    server = document["services"]["server"]
    assert server["command"] == ["--drain", str(DRAIN)]
    assert server["ports"] == ["${I2V_PORT:-8000}:8000"]
    assert server["environment"] == {"I2V_API_KEY_FILE": "/run/secrets/api-key"}
    assert set(server["secrets"]) == set(document["secrets"])
    _needed("check_jsonschema")
    (tmp_path / "compose.yaml").write_text(text)
    fits_compose(tmp_path / "compose.yaml")


def test_files_are_written_again_unless_somebody_changed_them(tmp_path: Path) -> None:
    directory = tmp_path / "deploy"
    deploy_files.check(directory)
    written = deploy_files.write(directory, _KINDS["baked"])
    assert [path.name for path in written] == ["compose.yaml", "kubernetes.yaml"]
    deploy_files.write(directory, _KINDS["volume"])
    assert _DIGEST in written[0].read_text()
    assert sorted(path.name for path in directory.iterdir()) == ["compose.yaml", "kubernetes.yaml"]

    changed = written[1].read_text().replace("replicas: 1", "replicas: 0")
    written[1].write_text(changed)
    with pytest.raises(ImageError, match=r"kubernetes\.yaml was changed") as caught:
        deploy_files.write(directory, _KINDS["baked"])
    assert "move it away" in caught.value.hint
    assert written[1].read_text() == changed
    assert _DIGEST in written[0].read_text()  # nothing was done


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    with pytest.raises(ImageError, match="somebody else's"):
        deploy_files.check(tmp_path)


@pytest.fixture
def composed(engine: Engine, base_image: str, tag: str, free_port: int, tmp_path: Path) -> Iterator[str]:
    """The project of a Compose file that was started; its image is the server that stands in."""
    command = _compose()
    servers.put_into(engine, base_image, tag, servers.SERVER)
    deployable = Deployable(tag, model("demo"), gpu=False)
    text = deploy_files.texts(deployable)["compose.yaml"]
    if command[-1] == "docker-compose":  # the first one takes the project's name from the directory alone
        text = re.sub(r"^name: .*\n", "", text, flags=re.MULTILINE)
    directory = tmp_path / tag.replace(":", "-")
    directory.mkdir()
    (directory / "compose.yaml").write_text(text)
    environment = {**os.environ, "I2V_PORT": str(free_port), "I2V_MEMORY": "512m"}

    def run(*arguments: str) -> None:
        project = ["--project-name", directory.name]
        done = subprocess.run(
            [*command, *project, *arguments],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    run("up", "--detach")
    try:
        yield directory.name
    finally:
        run("down", "--volumes")


@pytest.mark.docker
def test_compose_starts_what_we_would_have_started(
    engine: Engine, composed: str, tag: str, free_port: int, container_name: str, answering: Answering
) -> None:
    label = f"com.docker.compose.project={composed}"
    (theirs,) = engine.client.containers.list(filters={"label": label})
    with start(engine, tag, name=container_name) as ours:
        expected = dict(engine.client.containers.get(ours.name).attrs["HostConfig"])
        answering(Container(theirs, f"http://127.0.0.1:{free_port}"))
    found = theirs.attrs["HostConfig"]
    names = ("ReadonlyRootfs", "CapDrop", "CapAdd", "SecurityOpt", "PidsLimit", "ShmSize", "LogConfig", "Tmpfs")
    assert {name: found[name] for name in names} == {name: expected[name] for name in names}
    assert theirs.attrs["Config"]["User"] == "10001:10001"
    assert (found["Memory"], found["MemorySwap"]) == (512 << 20, 512 << 20)
    assert found["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(free_port)}]}
    told = requests.get(f"http://127.0.0.1:{free_port}/ready", timeout=5).json()
    assert told["arguments"] == ["--published-on", "127.0.0.1", "--drain", str(DRAIN)]
    assert told["kept"] == "x"  # it may write there
    check = theirs.attrs["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    # Beside the server rather than by exec: raises if it ends badly.
    engine.client.containers.run(
        tag, check[2:], entrypoint=check[1], network_mode=f"container:{theirs.id}", remove=True
    )


def _compose() -> Sequence[str]:
    """The command of Compose, the second or the first, whichever is here."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose") is None:
        pytest.skip("Docker Compose is not installed")
    return ["docker-compose"]


def _needed(name: str) -> Any:
    """A package that knows a schema; in CI it has to be here."""
    if os.environ.get("CI") == "true":
        __import__(name)
    return pytest.importorskip(name)
