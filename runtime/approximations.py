"""What `fast` changes for the length of one call: a little less exact, in less time.

A family names one of these in its row (`runtime.families`), and the engine holds it around the call of the pipeline:
the call after it, and one that was cancelled or ran out of memory, find everything as it was. Standard library alone at
import. Knows nothing of requests.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

#: The residual of the first block may change by this share before the others are computed again. The default of
#: diffusers, at which its authors saw LTX-Video and Wan in 0.65 of the time; they call all below 0.2 usable
#: (huggingface/diffusers#11180).
_THRESHOLD = 0.05


@dataclass(frozen=True)
class Approximation:
    """One way to need less time.

    Attributes:
        held: Holds it on in a loaded pipeline.
        share: What share of the denoising steps asked for is made.
    """

    held: Callable[[Any], AbstractContextManager[None]]
    share: float = 1.0

    def steps(self, asked: int) -> int:
        """How many denoising steps are made where so many were asked for."""
        return math.ceil(asked * self.share)


@contextmanager
def _solved_by(make: Callable[[Any], Any], pipeline: Any) -> Iterator[None]:
    """Another solver in the scheduler's place, made anew from its settings: it remembers its steps."""
    usual = pipeline.scheduler
    pipeline.scheduler = make(usual.config)
    try:
        yield
    finally:
        pipeline.scheduler = usual


def _unipc(config: Any) -> Any:
    """UniPC in second order, for what was sampled with DDIM.

    From the last timestep on ("trailing"): with "leading", as I2VGen-XL has it, this class begins at 941 of 1000 in 20
    steps and at 797 in 200, so that more steps come no closer to the exact video. To the first timestep's noise and not
    to none: that last leap, over a whole step in first order, is its largest error. DPM-Solver++ is as good for
    AnimateDiff, and hardly better than DDIM on I2VGen-XL's noise, which begins without any signal.
    """
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler.from_config(config, timestep_spacing="trailing", final_sigmas_type="sigma_min")


def _edm_dpm(config: Any) -> Any:
    """DPM-Solver++ for SVD, whose denoiser is told the logarithm of the noise and no timestep: few solvers do that.

    Its noise levels are those of the Euler scheduler that SVD comes with.
    """
    from diffusers import EDMDPMSolverMultistepScheduler

    return EDMDPMSolverMultistepScheduler(
        sigma_min=config.sigma_min,
        sigma_max=config.sigma_max,
        sigma_data=1.0,
        sigma_schedule="karras",
        prediction_type=config.prediction_type,
    )


@contextmanager
def _block_cache(pipeline: Any) -> Iterator[None]:
    """All blocks but the first keep what they last added, as long as the first one adds about the same.

    Hooks of diffusers, put on and taken off again with what they keep; guidance's two passes are kept apart.
    """
    from diffusers.hooks import FirstBlockCacheConfig

    pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=_THRESHOLD))
    try:
        yield
    finally:
        pipeline.transformer.disable_cache()


UNIPC = Approximation(partial(_solved_by, _unipc), share=0.5)
EDM_DPM = Approximation(partial(_solved_by, _edm_dpm), share=0.5)
BLOCK_CACHE = Approximation(_block_cache)
