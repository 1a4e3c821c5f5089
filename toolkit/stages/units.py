"""Units: frames of the training speech -> the centroids of encoder=units, by k-means."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.config import Config, require
from toolkit.data.cuts import read_cuts
from toolkit.data.fingerprint import fingerprint
from toolkit.data.kmeans import lloyd, plus_plus
from toolkit.data.samples import SampleStore
from toolkit.data.seeding import seeded
from toolkit.data.units import encoder_mark, read_units, write_units
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import Encoder
from toolkit.models.build import best_device, build_encoder
from toolkit.stages.encode import fill_cache
from toolkit.stages.paths import SUMMARY, cuts_path
from toolkit.stages.progress import bar, say

_ABOUT = "settings"


def run(config: Config) -> Path:
    """Fit `units.count` centroids to frames of `encoder.of` and write them to `encoder.centroids`.

    The frames are drawn from the training speech and kept in the cache of `encoder.of`, so that an interrupted run
    goes on with them. A file that is there is kept if the same settings made it.

    Returns:
        the file.

    Raises:
        ConfigError: another encoder, impossible settings, or a file that other settings made.
        DataError: no prepared speech, or too little of it.
    """
    path, inner = _checked(config)
    encoder = build_encoder(inner.encoder).to(best_device())
    mark = encoder_mark(inner.encoder, encoder)
    corpus = json.loads((cuts_path(config, "train").parent / SUMMARY).read_text())["settings"]
    settings = fingerprint({"units": asdict(config.units), "seed": config.seed, "encoder": mark, "corpus": corpus})
    if path.exists():
        if read_units(path)[1].get(_ABOUT) != settings:
            raise ConfigError(
                f"{path} holds units that were fitted with other settings; models may have been trained with them. "
                "Name another file in encoder.centroids, or remove it to fit again"
            )
        say(f"units: made with the same settings already; kept ({path})")
        return path
    frames = _frames(inner, encoder)
    if len(frames) < config.units.count:
        raise DataError(f"{len(frames)} frames of training speech are too few for units.count={config.units.count}")
    centroids, error = _fit(config, frames)
    about = {_ABOUT: settings, "frames": str(len(frames)), "mean_squared_distance": f"{error:.6g}"}
    write_units(path, centroids, mark, about)
    say(f"units: {len(centroids)} of {len(frames)} frames, mean squared distance {error:.4g}; written to {path}")
    return path


def _checked(config: Config) -> tuple[Path, Config]:
    """Return the file to write, and the configuration with the encoder whose frames become units."""
    if config.encoder["name"] != "units":
        raise ConfigError(
            f"this makes the centroids of encoder=units, not of encoder={config.encoder['name']}: "
            "add encoder=units '+encoder.of={name: ..., model: ...}' encoder.centroids=FILE"
        )
    of = config.encoder["of"]
    if not isinstance(of, dict) or "name" not in of:
        raise ConfigError("encoder.of has no name: give it as '+encoder.of={name: ssl, model: ...}'")
    path = Path(require(config.encoder["centroids"], "encoder.centroids"))
    options = config.units
    if options.count < 1 or options.iterations < 1 or options.frames < options.count:
        raise ConfigError(
            f"units.count={options.count} and units.iterations={options.iterations} must be 1 or more, and "
            f"units.frames={options.frames} no fewer than units.count"
        )
    if not cuts_path(config, "train").exists():
        raise DataError(f"no training speech in {config.data_dir}: run the prepare stage first")
    return path, replace(config, encoder=of)


def _frames(config: Config, encoder: Encoder) -> Tensor:
    """Return the frames (N, D) of whole utterances of `train`, drawn by the seed until there are enough."""
    cuts: list[Any] = read_cuts(cuts_path(config, "train"))
    seeded(config.seed, "units").shuffle(cuts)
    lengths = encoder.output_lengths(torch.tensor([round(c.duration * encoder.sampling_rate) for c in cuts]))
    before = lengths.cumsum(0) - lengths
    drawn = [cut for cut, frames in zip(cuts, before.tolist(), strict=True) if frames < config.units.frames]
    audio = SampleStore(drawn, encoder.sampling_rate, most=encoder.max_duration)
    cache = fill_cache(config, encoder, "train", audio)
    return torch.cat([cache[cut.id] for cut in drawn])


def _fit(config: Config, frames: Tensor) -> tuple[Tensor, float]:
    """Return the centroids (K, D) and the mean squared distance of the frames (N, D) to them."""
    count, iterations = config.units.count, config.units.iterations
    seeds = []
    with bar("units: seeds", count) as progress:
        for seed in plus_plus(frames, count, config.seed):
            seeds.append(seed)
            progress.advance()
    with bar("units: k-means", iterations) as progress:
        for step in lloyd(frames, torch.stack(seeds), iterations):
            progress.advance(note=f"{step[1]:.4g}")
    return step
