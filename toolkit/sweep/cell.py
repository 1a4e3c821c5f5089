"""One cell of a sweep or of a table, in a process of its own: it trains, is measured, decodes and is scored.

`python -m toolkit.sweep.cell FOLDER` does what FOLDER/cell.json says. What is done already is not done again. Cells
side by side share the prepared data: one of them at a time writes it, the others wait and find it done.
"""

from __future__ import annotations

import fcntl
import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from toolkit.config import Config, compose_config
from toolkit.errors import DataError
from toolkit.stages import align, decode, encode, imitate, prepare, score, train
from toolkit.stages.paths import as_trained, checkpoint_folder
from toolkit.sweep.clock import median_step, step_clock
from toolkit.sweep.cost import embedding_rate, peak_memory, threads, trained_parameters
from toolkit.sweep.record import CELL, Cost, add_time, read_cost, read_record

DATA = ("prepare", "align", "encode", "imitate")
"""stages that write what all cells read"""


def run(folder: Path) -> None:
    """Do all of a cell that is left to do.

    Raises:
        DataError: the folder is not that of a cell.
    """
    record = read_record(folder)
    if record is None:
        raise DataError(f"{folder} is no cell of a sweep: it has no {CELL}")
    config = compose_config(record.overrides)
    for stage in record.stages:
        if stage in DATA or (stage == "decode" and _asks_the_text_llm(config)):
            with _alone(Path(config.data_dir)):
                _timed(folder, stage, config)
        else:
            _timed(folder, stage, config)
        gc.collect()


def _timed(folder: Path, stage: str, config: Config) -> None:
    began = time.monotonic()
    if stage == "train":
        _train(folder, config)
    else:
        _STAGES[stage](config)
    if stage == "train" and config.train.steps:
        _measure(folder, config)
    add_time(folder, stage, time.monotonic() - began)


def _train(folder: Path, config: Config) -> None:
    trained_now = not (checkpoint_folder(config) / "done").exists()
    train.run(config)
    if not config.train.steps:
        return
    # Here, and not later: what decoding takes is not what training takes.
    memory = peak_memory() if trained_now else None
    clock = step_clock(folder)
    cost = read_cost(folder) if not trained_now else None
    cost = cost or Cost(max((step for step, _ in clock), default=0), median_step(clock), memory, threads=threads())
    cost.write(folder)
    gc.collect()


def _measure(folder: Path, config: Config) -> None:
    cost, settings = read_cost(folder), as_trained(config)
    model = decode.trained_model(settings)
    rate = embedding_rate(settings, model)
    assert cost is not None, "written when the training ended"
    replace(cost, parameters=trained_parameters(model), embeddings_per_second=rate).write(folder)


def _asks_the_text_llm(config: Config) -> bool:
    """Tell whether decoding adds to the answers of the text LLM, which are kept with the data."""
    return config.decode.hears == "recogniser" or "cascade" in config.decode.systems


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Wait until no other cell writes the data."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


_STAGES: Mapping[str, Callable[[Config], object]] = {
    "prepare": prepare.run, "align": align.run, "encode": encode.run, "imitate": imitate.run,
    "decode": decode.run, "score": score.run,
}  # fmt: skip


if __name__ == "__main__":
    run(Path(sys.argv[1]))
