"""Loading: from a directory of safetensors to a pipeline on its device, in one way for all families.

What differs between families is its row in `runtime.families`. With `runtime.device` and `runtime.pipeline` one of the
three modules that touch torch. Knows nothing of requests.

Precision. Weights lie on disk in the model's own precision (fp16 or bf16) or in a wider one. On a GPU they are
computed in the model's own. A CPU has no fast 16-bit arithmetic (the demo model took thirty times as long), so there
they are widened to fp32 as they are loaded. `compute_precision` is the one place that decides.

Residency. On a GPU with room all weights lie there. With less, they wait in main memory and come over part by part
(model offload) or block by block (group offload), or the denoiser's lie there in 8 bits and are widened layer by layer
(`runtime.memory` decides; the last changes the video a little).
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.hooks import apply_group_offloading

from runtime.families import FAMILIES, Family
from runtime.footprint import Residency
from runtime.model_spec import Arithmetic, ModelSpec
from runtime.problems import RuntimeProblem

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "autocast": torch.float32}
#: A group of blocks that is brought over as one; the next group comes meanwhile.
_BLOCKS_PER_GROUP = 1


class LoadProblem(RuntimeProblem):
    """The model cannot be loaded."""


def compute_precision(spec: ModelSpec, device: torch.device) -> Arithmetic:
    """What the model is computed in if nobody says otherwise: its own precision on a GPU, fp32 on a CPU."""
    return "fp32" if device.type == "cpu" else spec.precision


def load(
    spec: ModelSpec,
    directory: Path,
    device: torch.device,
    precision: Arithmetic,
    residency: Residency,
    *,
    compiled: bool,
) -> Any:
    """Loads the model from a local directory: safetensors only, nothing from the network, no code that lies there.

    Args:
        spec: The model.
        directory: What its manifest lists.
        device: Where it will run.
        precision: What to compute in; with "autocast" the weights are fp32 and the arithmetic is narrower.
        residency: Where the weights wait.
        compiled: Whether the denoiser's blocks are compiled; the first call of each shape then takes longer.

    Raises:
        ModelMissing: The directory does not hold the model.
        LoadProblem: What it holds cannot be loaded.
    """
    spec.check(directory)
    family = FAMILIES[spec.family]
    try:
        pipeline = _read(spec, family, directory, DTYPES[precision])
        place(pipeline, family, device, DTYPES[precision], residency)
        if compiled:
            compile_blocks(getattr(pipeline, family.denoiser), family)
    except torch.OutOfMemoryError:
        raise LoadProblem(
            f"the model {spec.id} does not fit the memory of this GPU",
            "stop what else uses it, or take a smaller model",
        ) from None
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise LoadProblem(f"cannot load the model {spec.id}: {_one_line(error)}", "install it again") from error
    return pipeline


def _read(spec: ModelSpec, family: Family, directory: Path, dtype: torch.dtype) -> Any:
    files = {
        "variant": "fp16" if spec.precision == "fp16" else None,  # how published files of that precision are named
        "use_safetensors": True,
        "local_files_only": True,
    }
    parts = {
        name: getattr(diffusers, kind).from_pretrained(directory / name, dtype=dtype, **files)
        for name, kind in family.parts.items()
    }
    dtypes = {"default": dtype, **dict.fromkeys(family.fp32_parts, torch.float32)}
    pipeline = getattr(diffusers, family.pipeline).from_pretrained(directory, dtype=dtypes, **parts, **files)
    family.mend(pipeline)
    return pipeline


def place(pipeline: Any, family: Family, device: torch.device, dtype: torch.dtype, residency: Residency) -> None:
    """Brings what was read to where it waits for its turn."""
    if residency.fp8:
        getattr(pipeline, family.denoiser).enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype
        )
    if residency.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif residency.offload == "group":
        _bring_by_groups(pipeline, family, device)
    elif device.type == "cuda":
        _to_gpu(pipeline, device)
    else:
        pipeline.to(device)


def _bring_by_groups(pipeline: Any, family: Family, device: torch.device) -> None:
    """The denoiser by blocks and the encoders by layers. The VAE stays: it is small, and most are left behind else.

    By blocks an encoder would come over as a whole: its blocks lie too deep (huggingface/diffusers#12319 and #12692).
    """
    settings = {"onload_device": device, "use_stream": device.type == "cuda"}
    for name, part in pipeline.components.items():
        if name == "vae":
            part.to(device)
        elif name == family.denoiser:
            by_blocks = {"offload_type": "block_level", "num_blocks_per_group": _BLOCKS_PER_GROUP}
            apply_group_offloading(part, **by_blocks, **settings)
        elif isinstance(part, torch.nn.Module):
            apply_group_offloading(part, offload_type="leaf_level", **settings)


def _to_gpu(pipeline: Any, device: torch.device) -> None:
    """All weights to the GPU by way of pinned memory, which is many times as fast as from where they were read to."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for tensor in (*part.parameters(), *part.buffers()):
                tensor.data = tensor.data.pin_memory().to(device, non_blocking=True)
    torch.cuda.synchronize(device)
    pipeline.to(device)  # whatever is neither parameter nor buffer


def compile_blocks(denoiser: Any, family: Family) -> None:
    """Block by block: blocks that are alike are compiled once, and their code is kept between runs."""
    for module in denoiser.modules():
        if type(module).__name__ in family.blocks:
            module.compile()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
