"""The small models whose denoiser is a transformer: Wan 2.2 TI2V, LTX-Video, CogVideoX.

Written in the precisions of the published files, and cut into shards where those are. The compressions of the VAEs
are the real ones, since they decide which sizes and frame counts work.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from tests.small_models.encoders import WIDTH, t5_text, write_t5_tokenizer

#: Small enough for each of these parts to become several files.
_SHARD = "30KB"


def wan(directory: Path) -> None:
    """Published as a text-to-video pipeline; the tokenizer comes with a tokenizer.json beside SentencePiece's file."""
    tokenizer = write_t5_tokenizer(directory / "tokenizer")
    channels = 4
    vae = AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=channels,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=channels,
        text_dim=WIDTH,
        freq_dim=WIDTH,
        ffn_dim=2 * WIDTH,
        num_layers=2,
    )
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=t5_text(UMT5EncoderModel, UMT5Config, tokenizer).to(torch.bfloat16),
        vae=vae,
        transformer=transformer,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0),
        expand_timesteps=True,
    )
    _write(pipeline, directory)
    tokenizer.save_pretrained(directory / "tokenizer")
    _rename_in_index(directory, "T5Tokenizer", "T5TokenizerFast")


def ltx(directory: Path) -> None:
    """Published as a text-to-video pipeline, all of it in fp32."""
    tokenizer = write_t5_tokenizer(directory / "tokenizer")
    channels = 8
    vae = AutoencoderKLLTXVideo(
        latent_channels=channels,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
    )
    transformer = LTXVideoTransformer3DModel(
        in_channels=channels,
        out_channels=channels,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=WIDTH,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
    pipeline = LTXPipeline(
        tokenizer=tokenizer,
        text_encoder=t5_text(T5EncoderModel, T5Config, tokenizer),
        vae=vae,
        transformer=transformer,
        scheduler=scheduler,
    )
    _write(pipeline, directory)


def cogvideox(directory: Path) -> None:
    """With the learnt positions that bind the real one to 720x480."""
    tokenizer = write_t5_tokenizer(directory / "tokenizer")
    channels = 4
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(2, 2, 2, 4),  # the whole frame goes through the first
        latent_channels=channels,
        layers_per_block=1,
        norm_num_groups=2,
        scaling_factor=0.7,
        invert_scale_latents=True,
    )
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=2 * channels,
        out_channels=channels,
        time_embed_dim=16,
        text_embed_dim=WIDTH,
        num_layers=2,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=True,
    )
    scheduler = CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
    )
    pipeline = CogVideoXImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=t5_text(T5EncoderModel, T5Config, tokenizer).to(torch.bfloat16),
        vae=vae,
        transformer=transformer.to(torch.bfloat16),
        scheduler=scheduler,
    )
    _write(pipeline, directory)


def _write(pipeline: Any, directory: Path) -> None:
    """What is large in the published ones in shards; the tokenizer as it lies there, without a tokenizer.json."""
    tokenizer = {path: path.read_bytes() for path in (directory / "tokenizer").iterdir()}
    pipeline.save_pretrained(directory, safe_serialization=True)
    for name in ("text_encoder", "transformer"):
        shutil.rmtree(directory / name)
        getattr(pipeline, name).save_pretrained(directory / name, max_shard_size=_SHARD)
    shutil.rmtree(directory / "tokenizer")
    (directory / "tokenizer").mkdir()
    for path, content in tokenizer.items():
        path.write_bytes(content)


def _rename_in_index(directory: Path, old: str, new: str) -> None:
    index = directory / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8").replace(f'"{old}"', f'"{new}"'), encoding="utf-8")
