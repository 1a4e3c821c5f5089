"""Encode: cuts -> frozen encoder frames, computed once and kept under the fingerprint of what made them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from pathlib import Path

import torch
from torch import Tensor

from toolkit.config import Config
from toolkit.data.cuts import read_cuts
from toolkit.data.features import FrameCache
from toolkit.data.fingerprint import deciding, fingerprint
from toolkit.data.samples import SampleStore
from toolkit.errors import DataError
from toolkit.interfaces import Encoder
from toolkit.models.build import best_device, build_encoder
from toolkit.models.encoder_training import EncoderTraining
from toolkit.stages.paths import ENCODER_TRAINING, SPLITS, SUMMARY, cuts_path
from toolkit.stages.progress import bar, say
from toolkit.stages.verify import verify_frames, versions
from toolkit.types import Padded


def run(config: Config) -> dict[str, int]:
    """Encode every split that is prepared; what is there already is kept. Returns utterances by split.

    Where the model is given the audio itself there is nothing to keep.
    """
    if why := why_audio(config):
        say(f"encode: nothing to cache: {why}")
        return {}
    encoder = build_encoder(config.encoder).to(best_device())
    done = {}
    for split in SPLITS:
        path = cuts_path(config, split)
        if path.exists():
            done[split] = _encode_split(config, encoder, split)
    if not done:
        raise DataError(f"nothing to encode in {config.data_dir}: run the prepare stage first")
    return done


def frame_cache(config: Config, encoder: Encoder, split: str) -> FrameCache:
    """Open the cache of one split for this encoder and this preparation of the corpus, with whatever is in it."""
    corpus = json.loads((cuts_path(config, split).parent / SUMMARY).read_text())["settings"]
    about = {"encoder": deciding(config.encoder), "sampling_rate": encoder.sampling_rate, "corpus": corpus}
    return FrameCache(Path(config.data_dir) / split / "frames", fingerprint(about, encoder))


def encoder_training(config: Config) -> EncoderTraining:
    """Return what of the encoder is trained.

    Raises:
        ConfigError: the settings cannot be.
    """
    mode, rate, rank, alpha, dropout, targets = (getattr(config.train, key) for key in ENCODER_TRAINING)
    return EncoderTraining(mode, rate, rank, alpha, dropout, tuple(targets))


def sample_store(config: Config, encoder: Encoder, split: str) -> SampleStore:
    """Open the audio of one split for this encoder, with the distorted copies of training."""
    cuts = read_cuts(cuts_path(config, split))
    copies = config.encode.copies if split == "train" else 0
    longest = config.prepare.max_duration
    return SampleStore(cuts, encoder.sampling_rate, most=encoder.max_duration, copies=copies, longest=longest)


def why_audio(config: Config) -> str:
    """Say why the model is given the audio and no cached frames; empty if it is given frames."""
    training = encoder_training(config)
    if training.trained:
        return f"the encoder is trained (train.encoder={training.mode})"
    if config.decode.hears == "recogniser" and not config.train.steps:
        return "a recogniser hears, and nothing is trained (decode.hears=recogniser train.steps=0)"
    return "pieces of the audio are encoded, each alone (cut=audio)" if config.cut == "audio" else ""


def speech_of(config: Config, encoder: Encoder, split: str) -> FrameCache | SampleStore:
    """Open what a model is given of one split: cached frames, or the audio."""
    return (sample_store if why_audio(config) else frame_cache)(config, encoder, split)


def verify_speech(config: Config, encoder: Encoder, split: str) -> None:
    """Encode `encode.verify` utterances of a split again, if the model is to be given cached frames of it.

    Raises:
        StaleCacheError: the cache is not to be used.
    """
    if config.encode.verify and not why_audio(config):
        cache = frame_cache(config, encoder, split)
        verify_frames(cache, encoder, sample_store(config, encoder, split), config.encode.verify)


def audio_and_frames(speech: FrameCache | SampleStore, names: Seq[str]) -> tuple[Padded | None, Padded | None]:
    """Load the speech of some utterances as the `audio` and the `frames` of a `Batch`, of which one is None."""
    rows = Padded.of([speech[name] for name in names])
    return (None, rows) if isinstance(speech, FrameCache) else (rows, None)


def _encode_split(config: Config, encoder: Encoder, split: str) -> int:
    audio = sample_store(config, encoder, split)
    if config.encode.copies and split == "train" and (without := audio.originals - audio.copied):
        longest = f"{config.prepare.max_duration:g} s"
        say(f"encode: {without} of {audio.originals} utterances have no copies: slowed, they could exceed {longest}")
    fill_cache(config, encoder, split, audio)
    return len(audio)


def fill_cache(config: Config, encoder: Encoder, split: str, audio: SampleStore) -> FrameCache:
    """Encode what is not in the cache of the split yet; returns the cache as it is then."""
    cache = frame_cache(config, encoder, split)
    todo = sorted((name for name in audio if name not in cache), key=audio.duration)
    if not todo:
        say(f"encode: {split} is done ({len(audio)} utterances in {cache.folder})")
        verify_frames(cache, encoder, audio, config.encode.verify)
        return cache
    about = {"encoder": {k: str(v) for k, v in config.encoder.items()}, "split": split, "versions": versions()}
    with bar(f"encode {split}", len(todo)) as progress:
        frames = _encode(encoder, audio, todo, config.encode.batch_size)
        for _ in cache.write(frames, config.encode.shard_size, about):
            progress.advance()
    cache = frame_cache(config, encoder, split)
    verify_frames(cache, encoder, audio, config.encode.verify)
    return cache


@torch.no_grad()
def _encode(encoder: Encoder, audio: SampleStore, todo: list[str], batch_size: int) -> Iterator[tuple[str, Tensor]]:
    """Encode in order of length, so that batch mates pad little."""
    for start in range(0, len(todo), batch_size):
        batch = todo[start : start + batch_size]
        samples = Padded.of([audio[name] for name in batch]).to(best_device())
        for name, row in zip(batch, encoder(samples).unpad(), strict=True):
            yield name, row.cpu()
