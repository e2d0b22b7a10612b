"""The small models whose denoiser is a UNet: I2VGen-XL, Stable Video Diffusion, AnimateDiff."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    I2VGenXLPipeline,
    I2VGenXLUNet,
    MotionAdapter,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableVideoDiffusionPipeline,
    UNet2DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessor

from tests.small_models.encoders import WIDTH, clip_image, clip_text, clip_tokenizer, write_clip_tokenizer


def i2vgen_xl(directory: Path) -> None:
    """The real one's four levels, scheduler and parts, thin enough for two CPU cores.

    Attention sits at the level where a 512 x 512 video has 16 x 16 positions; the real one has it at the
    three upper levels, which would cost the demo ten times the time.
    """
    tokenizer = clip_tokenizer()
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
    pipeline = I2VGenXLPipeline(
        vae=_vae(),
        text_encoder=clip_text(len(tokenizer)),
        tokenizer=tokenizer,
        image_encoder=clip_image(),
        feature_extractor=CLIPImageProcessor(crop_size=224, size=224),
        unet=unet,
        scheduler=scheduler,
    )
    _write(pipeline, directory)


def svd(directory: Path) -> None:
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
    pipeline = StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=clip_image(),
        unet=unet,
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(crop_size=224, size=224),
    )
    _write(pipeline, directory)


def animatediff(directory: Path) -> None:
    """Stable Diffusion 1.5, of which the safety checker is not fetched, and the motion adapter in a folder of its own.

    Two of the real one's four levels.
    """
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )
    pipeline = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=clip_text(len(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(crop_size=224, size=224),
        requires_safety_checker=False,
    )
    _write(pipeline, directory)
    index = json.loads((directory / "model_index.json").read_text(encoding="utf-8"))
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (directory / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    write_clip_tokenizer(directory / "tokenizer")
    adapter = MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_norm_num_groups=4,
        motion_num_attention_heads=4,
        use_motion_mid_block=True,
    )
    adapter.to(torch.float16).save_pretrained(directory / "motion_adapter", variant="fp16")


def _write(pipeline: Any, directory: Path) -> None:
    """As the fp16 variant, and with the processor's class named as the published ones name it."""
    pipeline.to(torch.float16)
    pipeline.save_pretrained(directory, variant="fp16", safe_serialization=True)
    index = directory / "model_index.json"  # saved without torchvision, it names another
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace("CLIPImageProcessorPil", "CLIPImageProcessor"), encoding="utf-8")


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
