"""How many processes train together, as torchrun tells each of them, and what cannot be trained so."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import Subset

from toolkit.config import Config
from toolkit.errors import ConfigError, RankError
from toolkit.training.ranks import Ranks, told_by_all
from toolkit.types import Example

STRATEGIES = ("auto", "ddp", "fsdp")
TOGETHER = ("train.strategy", "train.rank_timeout", "train.workers")
"""keys that say how processes work together, and decide nothing of what is trained"""


@dataclass(frozen=True)
class World:
    """The processes of a training: `size` of them, `here` on this machine; alone without torchrun."""

    size: int
    here: int

    @classmethod
    def told(cls) -> World:
        """Read what torchrun says."""
        size, here = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return cls(size, here)


def check_ranks(config: Config) -> None:
    """Refuse what these processes cannot train, before anything is loaded.

    Raises:
        ConfigError: the batch does not divide, or the strategy cannot be.
    """
    world, size, strategy = World.told(), config.train.batch_size, config.train.strategy
    if strategy not in STRATEGIES:
        raise ConfigError(f"train.strategy is one of {', '.join(STRATEGIES)}, not '{strategy}'")
    if world.size % world.here:
        raise ConfigError(
            f"{world.size} processes, {world.here} of them here: start equally many on every machine "
            "(torchrun --nproc-per-node)"
        )
    if size % world.size and not config.train.batch_tokens:
        near = max(size // world.size, 1) * world.size
        raise ConfigError(
            f"train.batch_size={size} does not divide among {world.size} processes: say train.batch_size={near} or "
            "another multiple, or start another number of processes"
        )
    if strategy != "fsdp":
        return
    if world.size == 1:
        raise ConfigError(
            "train.strategy=fsdp shares the text LLM out among processes, and there is one: start several "
            "(torchrun --nproc-per-node N --no-python toolkit train ...), or say train.strategy=auto"
        )
    if config.train.compile:
        raise ConfigError(
            "train.strategy=fsdp gathers layers as they run, which train.compile was not made for: say "
            "train.compile=false, or train.strategy=ddp"
        )
    if quantised := config.decoder.get("quantise"):
        raise ConfigError(
            f"train.strategy=fsdp cannot share out weights that are quantised (decoder.quantise={quantised}): leave "
            "decoder.quantise empty, or say train.strategy=ddp, with which each process holds all of them"
        )


def strategy_of(config: Config) -> Any:
    """Return how Lightning is to bring the processes together."""
    if World.told().size == 1:
        return "auto"
    return Ranks(shared_out=config.train.strategy == "fsdp", minutes=config.train.rank_timeout)


def batches_of_rank(batches: Any, config: Config, trainer: Any) -> Any:
    """Return a rank's part of the batches of the development set, or all where ranks must run equally many."""
    count, world = len(batches), trainer.world_size
    if config.train.strategy == "fsdp" or count < world:  # a rank without any would not come to their end
        return batches
    return Subset(batches, range(trainer.global_rank, count, world))


class Agreement(pl.Callback):
    """Refuses to train with processes that would not train the same: on other machines, files may be others.

    Args:
        config: of this process.
        start: the step that it begins at.
        examples: that it trains on.
    """

    def __init__(self, config: Config, start: int, examples: Seq[Example]) -> None:
        train = {key: value for key, value in asdict(config.train).items() if f"train.{key}" not in TOGETHER}
        asked = "\0".join(f"{e.id}\0{e.prompt}\0{e.response}" for e in examples)
        self.facts = {
            "step to begin at (exp_dir)": str(start),
            "seed and train.*": _digest(f"{config.seed} {sorted(train.items())}"),
            "training examples (data_dir)": f"{len(examples)}, digest {_digest(asked)}",
        }

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Compare with the others as soon as they are there.

        Raises:
            RankError: naming what differs, and how.
        """
        everybody = told_by_all(self.facts)
        for what in self.facts:
            said = [facts[what] for facts in everybody]
            if len(set(said)) > 1:
                told = "; ".join(f"rank {rank}: {value}" for rank, value in enumerate(said))
                raise RankError(
                    f"processes differ in the {what}: {told}. Start the same command everywhere, with exp_dir and "
                    "data_dir on a file system that all machines share"
                )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
