"""Encode: cuts -> frozen encoder frames, computed once and kept under the fingerprint of what made them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.config import Config
from toolkit.data.augmentation import copies_of, copy_name, distort
from toolkit.data.cuts import load_cut_audio, read_cuts
from toolkit.data.features import FrameCache
from toolkit.data.fingerprint import deciding, fingerprint
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
    corpus = json.loads((cuts_path(config, split).parent / SUMMARY).read_text())["settings"]
    about = {"encoder": deciding(config.encoder), "sampling_rate": encoder.sampling_rate, "corpus": corpus}
    return FrameCache(Path(config.data_dir) / split / "frames", fingerprint(about, encoder))


def _encode_split(config: Config, encoder: Encoder, split: str, cuts: list[Any]) -> int:
    cache = frame_cache(config, encoder, split)
    copies = config.encode.copies if split == "train" else 0
    longest = config.prepare.max_duration
    wanted = [(cut, number) for cut in cuts for number in (0, *copies_of(cut.duration, copies, longest))]
    if copies and (without := len(cuts) - sum(number == 1 for _, number in wanted)):
        say(f"encode: {without} of {len(cuts)} utterances have no copies: slowed, they could exceed {longest:g} s")
    fill_cache(config, encoder, split, cache, wanted)
    return len(wanted)


def fill_cache(config: Config, encoder: Encoder, split: str, cache: FrameCache, wanted: list[tuple[Any, int]]) -> None:
    """Encode what is wanted, cuts and the numbers of their copies, and is not in the cache yet."""
    todo = sorted((x for x in wanted if _name(*x) not in cache), key=lambda x: x[0].duration)
    if not todo:
        say(f"encode: {split} is done ({len(wanted)} utterances in {cache.folder})")
        return
    about = {"encoder": {k: str(v) for k, v in config.encoder.items()}, "split": split}
    with bar(f"encode {split}", len(todo)) as progress:
        frames = _encode(encoder, todo, config.encode.batch_size)
        for _ in cache.write(frames, config.encode.shard_size, about):
            progress.advance()


@torch.no_grad()
def _encode(encoder: Encoder, todo: list[tuple[Any, int]], batch_size: int) -> Iterator[tuple[str, Tensor]]:
    """Encode in order of length, so that batch mates pad little."""
    for start in range(0, len(todo), batch_size):
        batch = todo[start : start + batch_size]
        audio = Padded.of([_load(cut, number, encoder.sampling_rate) for cut, number in batch]).to(best_device())
        for item, row in zip(batch, encoder(audio).unpad(), strict=True):
            yield _name(*item), row.cpu()


def _name(cut: Any, number: int) -> str:
    """Name a copy of an utterance; 0 is the utterance itself."""
    return copy_name(cut.id, number) if number else str(cut.id)


def _load(cut: Any, number: int, sampling_rate: int) -> Tensor:
    samples = load_cut_audio(cut, sampling_rate)
    return torch.from_numpy(distort(samples.numpy(), sampling_rate, cut.id, number)) if number else samples
