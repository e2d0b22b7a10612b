"""The models that can be installed and run, one row each.

A row names its family (`runtime.families`); a manifest beside it lists the files (`runtime.manifest`).
Knows nothing of torch, of mirrors, or of where on this machine the files lie.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runtime import manifest
from runtime.manifest import INSTALLED, ModelFile, Origin, as_installed, digest_of_files
from runtime.model_spec import Arithmetic, HashesUnknown, ModelMissing, ModelSpec, Precision
from runtime.problems import RuntimeProblem

__all__ = [
    "INSTALLED",
    "MODELS",
    "Arithmetic",
    "HashesUnknown",
    "ModelFile",
    "ModelMissing",
    "ModelSpec",
    "Origin",
    "Precision",
    "UnknownModel",
    "as_installed",
    "digest_of_files",
    "installed",
    "model",
]


class UnknownModel(RuntimeProblem):
    """No row has this id."""


_STABILITY = (
    "Takes no prompt: the picture alone decides. Stability AI's community licence holds for the weights: "
    "read it before you earn money with the videos."
)

_ROWS = (
    ModelSpec(
        id="demo",
        title="Demo (random weights)",
        family="i2vgen-xl",
        repo=None,
        revision=None,
        licence="Apache-2.0",
        gated=False,
        precision="fp16",
        note="A tiny I2VGen-XL with random weights: it shows that the whole path works, not what a real model "
        "makes. Expect moving colours, not your picture.",
        manifest="demo/manifest.json",
    ),
    ModelSpec(
        id="i2vgen-xl",
        title="I2VGen-XL",
        family="i2vgen-xl",
        repo="ali-vilab/i2vgen-xl",
        revision="39e1979ea27be737b0278c06755e321f2b4360d5",
        licence="mit",
        gated=False,
        precision="fp16",
        note="Follows the prompt as well as the picture.",
        manifest="manifests/i2vgen-xl.json",
    ),
    ModelSpec(
        id="svd",
        title="Stable Video Diffusion",
        family="svd",
        repo="stabilityai/stable-video-diffusion-img2vid",
        revision="9cf024d5bfa8f56622af86c884f26a52f6676f2e",
        licence="stable-video-diffusion-community",
        gated=None,
        precision="fp16",
        note=_STABILITY + " Made for 14 frames.",
        manifest="manifests/svd.json",
        takes_prompt=False,
    ),
    ModelSpec(
        id="svd-xt",
        title="Stable Video Diffusion XT",
        family="svd",
        repo="stabilityai/stable-video-diffusion-img2vid-xt",
        revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
        licence="stable-video-diffusion-community",
        gated=None,
        precision="fp16",
        note=_STABILITY + " Made for 25 frames.",
        manifest="manifests/svd-xt.json",
        takes_prompt=False,
    ),
    ModelSpec(
        id="animatediff",
        title="AnimateDiff v1.5-2 with Stable Diffusion 1.5",
        family="animatediff",
        repo="stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        licence="creativeml-openrail-m; the motion adapter's repository names none",
        gated=None,
        precision="fp16",
        note="A text-to-video model: your picture is repeated as a still video and redrawn in motion, so it is "
        "followed loosely. Two repositories; OpenRAIL-M forbids some uses, which you take over with the weights.",
        manifest="manifests/animatediff.json",
    ),
    ModelSpec(
        id="wan2.2-ti2v-5b",
        title="Wan 2.2 TI2V 5B",
        family="wan",
        repo="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        revision="b8fff7315c768468a5333511427288870b2e9635",
        licence="apache-2.0",
        gated=False,
        precision="bf16",
        note="A large download, since its transformer is published in fp32 only.",
        manifest="manifests/wan2.2-ti2v-5b.json",
    ),
    ModelSpec(
        id="ltx-video",
        title="LTX-Video 2B",
        family="ltx",
        repo="Lightricks/LTX-Video",
        revision="8984fa25007f376c1a299016d0957a37a2f797bb",
        licence="ltx-video-open-weights (License.txt in the repository)",
        gated=None,
        precision="bf16",
        note="Two thirds of the download are its text encoder, published in fp32 only. The licence has terms "
        "of its own: read it before you earn money with the videos.",
        manifest="manifests/ltx-video.json",
    ),
    ModelSpec(
        id="cogvideox-5b-i2v",
        title="CogVideoX 5B I2V",
        family="cogvideox",
        repo="THUDM/CogVideoX-5b-I2V",
        revision="a6f0f4858a8395e7429d82493864ce92bf73af11",
        licence="cogvideox (LICENSE in the repository)",
        gated=None,
        precision="bf16",
        note="Made for 720x480 and 49 frames. Its licence has terms of its own: "
        "read it before you earn money with the videos.",
        manifest="manifests/cogvideox-5b-i2v.json",
    ),
)

MODELS: Mapping[str, ModelSpec] = {row.id: row for row in _ROWS}


def model(model_id: str) -> ModelSpec:
    """The row named `model_id`.

    Raises:
        UnknownModel: There is none; the hint names those that there are.
    """
    try:
        return MODELS[model_id]
    except KeyError:
        raise UnknownModel(f"unknown model {model_id!r}", f"known models: {', '.join(MODELS)}") from None


def installed(model_id: str, directory: Path) -> ModelSpec:
    """The row named `model_id`, with what its directory says of the files that the row leaves open.

    Raises:
        UnknownModel: There is no such row.
        ModelMissing: The directory speaks of other bytes than the row.
    """
    row = model(model_id)
    found = manifest.installed(directory)
    if row.complete or found is None:
        return row
    files = []
    for file in row.files:
        if file.path not in found:
            if not file.optional:
                raise ModelMissing(f"{directory} lacks {file.path} of the model {model_id}", "install the model again")
            continue
        size, sha256 = found[file.path]
        if file.sha256 not in (None, sha256):
            raise ModelMissing(f"{directory} holds another {file.path} than the model {model_id} has", "install again")
        files.append(replace(file, size=size, sha256=sha256, optional=False))
    return replace(row, known=tuple(files))
