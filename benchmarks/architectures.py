"""The real architecture of every model in `runtime.models`, with random weights, without a download.

Which configuration a published model has is written down here, where diffusers' class does not have it by itself; a
test compares what comes of it with the sizes of the published files. On the "meta" device a model takes no memory: that
is how `benchmarks.peaks` predicts. On a CPU or GPU it computes what the real one does, as fast and in as much memory;
what comes out is noise.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from runtime.quiet import hush

hush()

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    CogVideoXTransformer3DModel,
    I2VGenXLUNet,
    LTXVideoTransformer3DModel,
    MotionAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
    UNetSpatioTemporalConditionModel,
    WanTransformer3DModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from runtime.families import FAMILIES
from runtime.models import model
from tests.small_models.encoders import clip_tokenizer, write_t5_tokenizer

Parts = dict[str, Any]
#: "small" has one thin layer and the real width of what it hands on; the pipeline then takes no text encoder's memory.
TextEncoder = Literal["real", "small"]

#: The specials are the last of the tokenizers that are made in code (`tests.small_models.encoders`).
_CLIP = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
_VIT_H_TEXT = {
    **_CLIP,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 1024,
}
_VIT_L_TEXT = {**_CLIP, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "projection_dim": 768}
_VIT_L_TEXT["num_attention_heads"] = 12
_VIT_H_IMAGE = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "hidden_act": "gelu",
    "projection_dim": 1024,
}
_T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
_UMT5_XXL = {**_T5_XXL, "vocab_size": 256384}
#: What makes each of them small.
_SMALL = {
    CLIPTextModel: {"intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 514},
    T5EncoderModel: {"d_ff": 64, "num_layers": 1, "num_heads": 1, "vocab_size": 1024},
    UMT5EncoderModel: {"d_ff": 64, "num_layers": 1, "num_heads": 1, "vocab_size": 1024},
}
_SD_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
_SVD_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 2,
}
_WAN_LATENT = 48
_WAN_VAE = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": _WAN_LATENT,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * _WAN_LATENT,
    "latents_std": [1.0] * _WAN_LATENT,
}
_WAN = {
    "num_attention_heads": 24,
    "in_channels": _WAN_LATENT,
    "out_channels": _WAN_LATENT,
    "ffn_dim": 14336,
    "num_layers": 30,
}
_COGVIDEOX = {
    "num_attention_heads": 48,
    "in_channels": 32,
    "num_layers": 42,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": True,
}
_COGVIDEOX_VAE = {"scaling_factor": 0.7, "invert_scale_latents": True}


def _clip_text(config: Mapping[str, Any], small: bool) -> Any:
    return CLIPTextModel(CLIPTextConfig(**{**config, **(_SMALL[CLIPTextModel] if small else {})}))


def _clip_image() -> Any:
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**_VIT_H_IMAGE))


def _t5(kind: Any, config: Any, settings: Mapping[str, Any], small: bool) -> Any:
    return kind(config(**{**settings, **(_SMALL[kind] if small else {})}))


def _i2vgen_xl(small: bool) -> Parts:
    return {
        "unet": I2VGenXLUNet(),
        "vae": AutoencoderKL(**_SD_VAE),
        "text_encoder": _clip_text(_VIT_H_TEXT, small),
        "image_encoder": _clip_image(),
    }


def _svd(_small: bool) -> Parts:
    return {
        "unet": UNetSpatioTemporalConditionModel(sample_size=96),
        "vae": AutoencoderKLTemporalDecoder(**_SVD_VAE),
        "image_encoder": _clip_image(),
    }


def _animatediff(small: bool) -> Parts:
    return {
        "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        "motion_adapter": MotionAdapter(),
        "vae": AutoencoderKL(**_SD_VAE),
        "text_encoder": _clip_text(_VIT_L_TEXT, small),
    }


def _wan(small: bool) -> Parts:
    return {
        "transformer": WanTransformer3DModel(**_WAN),
        "vae": AutoencoderKLWan(**_WAN_VAE),
        "text_encoder": _t5(UMT5EncoderModel, UMT5Config, _UMT5_XXL, small),
    }


def _ltx(small: bool) -> Parts:
    return {
        "transformer": LTXVideoTransformer3DModel(),
        "vae": AutoencoderKLLTXVideo(),
        "text_encoder": _t5(T5EncoderModel, T5Config, _T5_XXL, small),
    }


def _cogvideox(small: bool) -> Parts:
    return {
        "transformer": CogVideoXTransformer3DModel(**_COGVIDEOX),
        "vae": AutoencoderKLCogVideoX(**_COGVIDEOX_VAE),
        "text_encoder": _t5(T5EncoderModel, T5Config, _T5_XXL, small),
    }


def _demo(_small: bool) -> Parts:
    """The bundled model as its own files describe it: all of it is small."""
    directory = model("demo").bundled
    assert directory is not None
    parts: Parts = {}
    for name, kind in (("unet", I2VGenXLUNet), ("vae", AutoencoderKL)):
        parts[name] = kind.from_config(kind.load_config(directory / name))
    parts["text_encoder"] = CLIPTextModel(CLIPTextConfig.from_pretrained(directory / "text_encoder"))
    seeing = CLIPVisionConfig.from_pretrained(directory / "image_encoder")
    parts["image_encoder"] = CLIPVisionModelWithProjection(seeing)
    return parts


_PARTS: Mapping[str, Callable[[bool], Parts]] = {
    "demo": _demo,
    "i2vgen-xl": _i2vgen_xl,
    "svd": _svd,
    "svd-xt": _svd,
    "animatediff": _animatediff,
    "wan2.2-ti2v-5b": _wan,
    "ltx-video": _ltx,
    "cogvideox-5b-i2v": _cogvideox,
}

#: The scheduler of each family, and what its published configuration says beside the class's own.
_SCHEDULERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "i2vgen-xl": (
        "DDIMScheduler",
        {
            "beta_schedule": "squaredcos_cap_v2",
            "clip_sample": False,
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "steps_offset": 1,
        },
    ),
    "svd": (
        "EulerDiscreteScheduler",
        {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "prediction_type": "v_prediction",
            "sigma_max": 700.0,
            "sigma_min": 0.002,
            "steps_offset": 1,
            "timestep_spacing": "leading",
            "timestep_type": "continuous",
            "use_karras_sigmas": True,
        },
    ),
    "animatediff": (
        "DDIMScheduler",
        {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False},
    ),
    "wan": (
        "UniPCMultistepScheduler",
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0},
    ),
    "ltx": (
        "FlowMatchEulerDiscreteScheduler",
        {
            "use_dynamic_shifting": True,
            "base_shift": 0.95,
            "max_shift": 2.05,
            "base_image_seq_len": 1024,
            "max_image_seq_len": 4096,
            "shift_terminal": 0.1,
        },
    ),
    "cogvideox": (
        "CogVideoXDDIMScheduler",
        {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "snr_shift_scale": 1.0,
            "timestep_spacing": "trailing",
        },
    ),
}
#: So many random numbers are drawn, and laid over the weights again and again: drawing billions takes minutes. A
#: prime, so that no two rows of a matrix get the same ones.
_DRAWN = 4_194_301


def published(model_id: str) -> Parts:
    """The parts as they are published, by the name of their folder, on the "meta" device in fp32."""
    return _shapes(model_id, small=False)


def build(
    model_id: str,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    *,
    text_encoder: TextEncoder = "real",
    seed: int = 0,
) -> Any:
    """The pipeline of a model, with tokenizers made in code and random weights that overflow in no precision.

    It has what `runtime.loading` does to a loaded one: the family's mending, and its parts that stay in fp32.

    Args:
        model_id: A row of `runtime.models`.
        dtype: Of the weights.
        device: Where they are made; on "meta" they are shapes alone.
        text_encoder: Whether the text encoder has its real size, which is over 9 GB for a T5, or is a stand-in.
        seed: The same seed makes the same weights.
    """
    family = model(model_id).family
    parts = _shapes(model_id, small=text_encoder == "small")
    if adapter := parts.pop("motion_adapter", None):
        with init_empty_weights(include_buffers=False):
            parts["unet"] = UNetMotionModel.from_unet2d(parts["unet"], adapter, load_weights=False)
    for name, part in parts.items():
        _cast(part, torch.float32 if name in FAMILIES[family].fp32_parts else dtype)
        _materialise(part, torch.device(device), seed)
    kind, settings = _SCHEDULERS[family]
    pipeline = getattr(diffusers, FAMILIES[family].pipeline)(
        **parts, **_others(family, parts), scheduler=getattr(diffusers, kind)(**settings)
    )
    FAMILIES[family].mend(pipeline)
    return pipeline


def _shapes(model_id: str, *, small: bool) -> Parts:
    with init_empty_weights(include_buffers=False):
        parts = _PARTS[model_id](small)
    for part in parts.values():
        if hasattr(part, "tie_weights"):  # what a T5 has twice is one again
            part.tie_weights()
    return parts


def _others(family: str, parts: Parts) -> dict[str, Any]:
    """What the pipeline takes beside weights and scheduler."""
    found: dict[str, Any] = {}
    if isinstance(parts.get("text_encoder"), CLIPTextModel):
        found["tokenizer"] = clip_tokenizer()
    elif "text_encoder" in parts:
        with tempfile.TemporaryDirectory() as directory:
            found["tokenizer"] = write_t5_tokenizer(Path(directory) / "tokenizer")
    if "image_encoder" in parts:
        found["feature_extractor"] = CLIPImageProcessor(crop_size=224, size=224)
    if family == "animatediff":
        found["motion_adapter"] = None
    if family == "wan":
        found["expand_timesteps"] = True
    return found


def _cast(part: Any, dtype: torch.dtype) -> None:
    """As `from_pretrained` does: what a class of diffusers keeps in fp32 stays so, and whole numbers too."""
    kept = tuple(getattr(part, "_keep_in_fp32_modules", None) or ()) if hasattr(part, "load_config") else ()
    for name, tensor in (*part.named_parameters(), *part.named_buffers()):
        if tensor.is_floating_point() and not any(word in name.split(".") for word in kept):
            tensor.data = tensor.data.to(dtype)


def _materialise(part: Any, device: torch.device, seed: int) -> None:
    """Puts the part on the device: parameters made there, buffers as they were computed."""
    for name, buffer in list(part.named_buffers()):
        _owner(part, name)._buffers[name.rpartition(".")[2]] = buffer.to(device)
    if device.type != "meta":
        generator = torch.Generator(device).manual_seed(seed)
        drawn = torch.randn(_DRAWN, generator=generator, device=device)
        made: dict[int, torch.nn.Parameter] = {}
        for name, parameter in list(part.named_parameters(remove_duplicate=False)):
            if id(parameter) not in made:  # what two modules share stays shared
                made[id(parameter)] = _random(name, parameter, drawn)
            _owner(part, name)._parameters[name.rpartition(".")[2]] = made[id(parameter)]
    part.requires_grad_(False).eval()


def _owner(part: Any, name: str) -> Any:
    return part.get_submodule(name.rpartition(".")[0])


def _random(name: str, like: torch.nn.Parameter, drawn: torch.Tensor) -> torch.nn.Parameter:
    """Norms that change nothing, no biases, and matrices that make what passes through them no larger."""
    data = torch.empty(like.shape, dtype=like.dtype, device=drawn.device)
    if name.endswith(("norm.gamma", ".gamma")) or (like.ndim == 1 and name.endswith("weight")):
        data.fill_(1)
    elif like.ndim == 1:
        data.zero_()
    else:
        scale = 0.5 / math.sqrt(data[0].numel())
        scaled = (drawn * scale).to(like.dtype)
        flat = data.view(-1)
        for start in range(0, flat.numel(), _DRAWN):
            piece = flat[start : start + _DRAWN]
            piece.copy_(scaled[: piece.numel()])
    return torch.nn.Parameter(data, requires_grad=False)


transformers.logging.set_verbosity_error()
