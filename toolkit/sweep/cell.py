"""One cell of a sweep, in a process of its own: train, measure, decode, score.

`python -m toolkit.sweep.cell FOLDER` does what FOLDER/cell.json says. What is done already is not done again.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from pathlib import Path

from toolkit.config import compose_config
from toolkit.errors import DataError
from toolkit.stages import decode, score, train
from toolkit.stages.paths import as_trained, checkpoint_folder
from toolkit.sweep.clock import median_step, step_clock
from toolkit.sweep.cost import embedding_rate, peak_memory, trained_parameters
from toolkit.sweep.record import CELL, Cost, read_cost, read_record


def run(folder: Path) -> None:
    """Do all of a cell that is left to do.

    Raises:
        DataError: the folder is not that of a cell.
    """
    record = read_record(folder)
    if record is None:
        raise DataError(f"{folder} is no cell of a sweep: it has no {CELL}")
    config = compose_config(record.overrides)
    trained_now = not (checkpoint_folder(config) / "done").exists()
    train.run(config)
    # Here, and not later: what decoding takes is not what training takes.
    memory = peak_memory() if trained_now else None
    clock = step_clock(folder)
    cost = read_cost(folder) if not trained_now else None
    cost = cost or Cost(max((step for step, _ in clock), default=0), median_step(clock), memory)
    cost.write(folder)
    gc.collect()
    settings = as_trained(config)
    model = decode.trained_model(settings)
    rate = embedding_rate(settings, model)
    replace(cost, parameters=trained_parameters(model), embeddings_per_second=rate).write(folder)
    del model
    gc.collect()
    decode.run(config)
    score.run(config)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
