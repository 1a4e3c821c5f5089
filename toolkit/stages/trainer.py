"""Lightning, set up as training needs it: processes by torchrun, checkpoints between steps, quiet."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from toolkit.config import Config
from toolkit.stages.machine import keep_freed_memory, share_threads
from toolkit.stages.ranks import World, strategy_of
from toolkit.stages.training_bar import TrainingBar


def make_trainer(config: Config, out: Path) -> Any:
    """Make the trainer of an experiment that keeps its checkpoints in `out`."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*IterableDataset.*__len__.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # Frozen parts stay in evaluation mode on purpose; checkpoints are taken between steps, not within.
    warnings.filterwarnings("ignore", message=".*module\\(s\\) in eval mode.*")
    warnings.filterwarnings("ignore", message=".*ModelCheckpoint with manual optimization.*")
    # The stream of steps starts where the checkpoint stands, by itself.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    every = config.train.validate_every
    # Processes are started by torchrun, which says how many; Lightning must not start more by itself.
    world = World.told()
    share_threads()
    keep_freed_memory()
    saver = ModelCheckpoint(out, save_last=True, save_top_k=0, every_n_train_steps=every)
    return pl.Trainer(
        accelerator="auto",
        devices=world.here,
        num_nodes=world.size // world.here,
        strategy=strategy_of(config),
        max_steps=config.train.steps,
        max_epochs=-1,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        callbacks=[saver, TrainingBar(f"train {Path(config.exp_dir).name}")],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=config.exp_dir,
    )
