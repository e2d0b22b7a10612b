"""Small pipelines with random weights, one builder per family, saved as the published ones are.

    python -m tests.small_models demo runtime/demo      writes the bundled demo model and its manifest

No network: the tokenizer's vocabulary is made here. To add a family, write a builder and add its row.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.quiet import hush

hush()

import torch  # noqa: E402 - the libraries read their settings at import
from diffusers import (  # noqa: E402
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    I2VGenXLPipeline,
    I2VGenXLUNet,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import (  # noqa: E402
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

#: What every part that speaks with the denoiser has as its width.
WIDTH = 32


def save(name: str, directory: Path, seed: int = 0) -> None:
    """Writes the small pipeline `name` into `directory`, which it replaces, with its manifest."""
    shutil.rmtree(directory, ignore_errors=True)
    torch.manual_seed(seed)
    pipeline = BUILDERS[name]()
    pipeline.to(torch.float16)
    pipeline.save_pretrained(directory, variant="fp16", safe_serialization=True)
    _name_processor_as_published(directory / "model_index.json")
    for weights in directory.rglob("*.safetensors"):
        weights.chmod(0o644)  # written for the owner alone
    write_manifest(directory)


def write_manifest(directory: Path) -> None:
    """Lists every file of `directory` with its size and sha256 in manifest.json beside them."""
    manifest = directory / "manifest.json"
    manifest.unlink(missing_ok=True)
    rows = [
        {
            "path": path.relative_to(directory).as_posix(),
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]
    manifest.write_text(json.dumps({"files": rows}, indent=2) + "\n", encoding="utf-8")


def _build_i2vgen_xl() -> Any:
    """The real one's four levels, scheduler and parts, thin enough for two CPU cores.

    Attention sits at the level where a 512 x 512 video has 16 x 16 positions; the real one has it at the
    three upper levels, which would cost the demo ten times the time.
    """
    tokenizer = _byte_tokenizer()
    unet = I2VGenXLUNet(
        sample_size=32,
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownBlock3D", "DownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D", "UpBlock3D"),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    )
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        steps_offset=1,
    )
    return I2VGenXLPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        image_encoder=_image_encoder(),
        feature_extractor=CLIPImageProcessor(crop_size=224, size=224),
        unet=unet,
        scheduler=scheduler,
    )


def _build_svd() -> Any:
    """The parts of Stable Video Diffusion, two levels deep."""
    unet = UNetSpatioTemporalConditionModel(
        sample_size=32,
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        num_attention_heads=4,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    return StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=_image_encoder(),
        unet=unet,
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(crop_size=224, size=224),
    )


#: The families that can be built small, and the model that is bundled.
BUILDERS: Mapping[str, Callable[[], Any]] = {"demo": _build_i2vgen_xl, "svd": _build_svd}


def _vae() -> Any:
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=768,
    )
    _soften(vae.decoder)
    return vae


def _soften(decoder: Any) -> None:
    """Random weights with smooth kernels: soft blots of colour instead of noise.

    One can look at them, and they compress about as a real video does.
    """
    row = torch.tensor([1.0, 2.0, 1.0])
    kernel = torch.outer(row, row)
    kernel /= kernel.norm()
    for name, module in decoder.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            outputs, inputs = module.weight.shape[:2]
            gain = 0.35 if name == "conv_out" else 1.0  # keeps the last layer within what a screen shows
            module.weight.data = torch.randn(outputs, inputs, 1, 1) * kernel * gain / inputs**0.5


def _text_encoder(vocabulary: int) -> Any:
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModel(config)


def _image_encoder() -> Any:
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=32,
    )
    return CLIPVisionModelWithProjection(config)


def _byte_tokenizer() -> Any:
    """CLIP's tokenizer without merges: a symbol for each byte, its word-ending form, and the two specials."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _name_processor_as_published(index: Path) -> None:
    """Saved without torchvision, the index names a class that the published ones do not."""
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace("CLIPImageProcessorPil", "CLIPImageProcessor"), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a small model with random weights.")
    parser.add_argument("name", choices=sorted(BUILDERS))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    save(arguments.name, arguments.directory, arguments.seed)
