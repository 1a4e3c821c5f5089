"""Encode: cuts -> frozen encoder frames, computed once and kept under the fingerprint of what made them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.config import Config
from toolkit.data.cuts import load_cut_audio, read_cuts
from toolkit.data.features import FrameCache
from toolkit.data.fingerprint import fingerprint
from toolkit.errors import DataError
from toolkit.interfaces import Encoder
from toolkit.models.build import best_device, build_encoder
from toolkit.stages.paths import SPLITS, SUMMARY, cuts_path
from toolkit.stages.progress import bar, say
from toolkit.types import Padded


def run(config: Config) -> dict[str, int]:
    """Encode every split that is prepared; what is there already is kept. Returns utterances by split."""
    encoder = build_encoder(config.encoder).to(best_device())
    done = {}
    for split in SPLITS:
        path = cuts_path(config, split)
        if path.exists():
            done[split] = _encode_split(config, encoder, split, read_cuts(path))
    if not done:
        raise DataError(f"nothing to encode in {config.data_dir}: run the prepare stage first")
    return done


def frame_cache(config: Config, encoder: Encoder, split: str) -> FrameCache:
    """Open the cache of one split for this encoder and this preparation of the corpus, with whatever is in it."""
    options = {key: value for key, value in config.encoder.items() if key != "model"}
    corpus = json.loads((cuts_path(config, split).parent / SUMMARY).read_text())["settings"]
    about = {"encoder": options, "sampling_rate": encoder.sampling_rate, "corpus": corpus}
    return FrameCache(Path(config.data_dir) / split / "frames", fingerprint(about, encoder))


def _encode_split(config: Config, encoder: Encoder, split: str, cuts: list[Any]) -> int:
    cache = frame_cache(config, encoder, split)
    todo = sorted((cut for cut in cuts if cut.id not in cache), key=lambda cut: cut.duration)
    if not todo:
        say(f"encode: {split} is done ({len(cuts)} utterances in {cache.folder})")
        return len(cuts)
    about = {"encoder": {k: str(v) for k, v in config.encoder.items()}, "split": split}
    with bar(f"encode {split}", len(todo)) as progress:
        frames = _encode(encoder, todo, config.encode.batch_size)
        for _ in cache.write(frames, config.encode.shard_size, about):
            progress.advance()
    return len(cuts)


@torch.no_grad()
def _encode(encoder: Encoder, cuts: list[Any], batch_size: int) -> Iterator[tuple[str, Tensor]]:
    """Encode in order of length, so that batch mates pad little."""
    for start in range(0, len(cuts), batch_size):
        batch = cuts[start : start + batch_size]
        audio = Padded.of([load_cut_audio(cut, encoder.sampling_rate) for cut in batch]).to(best_device())
        for cut, row in zip(batch, encoder(audio).unpad(), strict=True):
            yield cut.id, row.cpu()
