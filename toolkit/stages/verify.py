"""Frames that are kept, verified: a few utterances are encoded again and compared with what the cache holds."""

from __future__ import annotations

from importlib.metadata import version

import torch

from toolkit import __version__
from toolkit.data.features import FrameCache
from toolkit.data.samples import SampleStore
from toolkit.errors import DataError, StaleCacheError
from toolkit.interfaces import Encoder
from toolkit.models.build import best_device
from toolkit.stages.progress import say
from toolkit.types import Padded

NEAR = 0.01
"""by how much of their norm frames may be off: fp16 and batch mates account for a thousandth, other kernels for less"""


def versions() -> dict[str, str]:
    """Return the versions that frames are made by, for whoever finds them changed."""
    return {"toolkit": __version__, **{name: version(name) for name in ("torch", "transformers")}}


@torch.no_grad()
def verify_frames(cache: FrameCache, encoder: Encoder, audio: SampleStore, count: int) -> None:
    """Encode `count` utterances again, spread over the split, each alone.

    Raises:
        StaleCacheError: what is kept is damaged, or is not what this encoder makes here and now.
    """
    kept = sorted(name for name in audio if name in cache)
    for name in [kept[i * len(kept) // count] for i in range(count)] if count < len(kept) else kept:
        try:
            samples = Padded.of([audio[name]])
        except DataError as error:  # frames may be used where their audio is not
            say(f"frames in {cache.folder} are not verified: {error}")
            return
        held, device = cache[name], best_device()
        made, again = (encoder.to(device)(samples.to(device)).unpad()[0].float().cpu() for _ in range(2))
        if _apart(made, again) > NEAR:
            raise StaleCacheError(
                f"{type(encoder).__name__} makes other frames of '{name}' each time, so none can be kept: what it "
                "distorts or drops belongs before it (encode.copies) or into the adapter"
            )
        if (apart := _apart(held, made)) > NEAR:
            by = ", ".join(f"{key} {value}" for key, value in cache.about.get("versions", {}).items()) or "nobody knows"
            here = ", ".join(f"{key} {value}" for key, value in versions().items())
            raise StaleCacheError(
                f"frames of '{name}' in {cache.folder} are not what this encoder makes of its audio: {_far(apart)}. "
                f"They are damaged, the audio has changed, or another version made them (theirs: "
                f"{by}; here: {here}). Remove the folder and run `toolkit encode` with this configuration"
            )


def _far(apart: float) -> str:
    return "of another length or width" if apart == float("inf") else f"{apart:.0%} of their norm apart"


def _apart(kept: torch.Tensor, made: torch.Tensor) -> float:
    if kept.shape != made.shape:
        return float("inf")
    return float((kept - made).norm() / made.norm().clamp(min=1e-9))
