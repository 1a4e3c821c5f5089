"""What suits the machine that trains: precision of the frozen decoder, measured, threads of processes, freed memory."""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.models.build import best_device
from toolkit.stages.progress import say

AUTO = "auto"
ROWS, WIDTH = 256, 1024
"""of the products that are timed: about those of a step of a small LLM"""
TIMES = 5
FASTER = 0.8
"""share of the time of fp32 that bf16 must stay below to be worth its rounding"""
_CHOSEN = "decoder_dtype"
_TRIM, _MAP = -1, -3
"""options of glibc's mallopt: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD"""
_MAPPED = 2**25
"""bytes: the most that glibc takes as M_MMAP_THRESHOLD; a larger tensor is got anew each time"""
_SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""variables of the environment by which a user tells glibc the same"""


def training_dtype(config: Config, folder: Path) -> str:
    """Return `train.decoder_dtype`, or for `auto` what is fast here: measured once a training, and kept in `folder`.

    An interrupted training goes on in the precision that it was begun in, and so do all ranks: the first one to have
    measured has it for all.
    """
    if config.train.decoder_dtype != AUTO:
        return config.train.decoder_dtype
    kept = folder / _CHOSEN
    if not kept.exists():
        full, half = (_seconds(dtype) for dtype in (torch.float32, torch.bfloat16))
        own = folder / f"{_CHOSEN}.{os.getpid()}"
        own.write_text("bf16" if half < FASTER * full else "fp32")
        with suppress(FileExistsError):  # another rank was first
            os.link(own, kept)
        own.unlink()
        say(f"train: bf16 takes {half / full:.2f} of the time of fp32 here (train.decoder_dtype=auto)")
    chosen = kept.read_text()
    say(f"train: the decoder is in {chosen}")
    return chosen


def decoder_for(config: Config, folder: Path) -> dict[str, Any]:
    """Return the options of the decoder to train with, in the precision that `training_dtype` says."""
    dtype = training_dtype(config, folder)
    return {**config.decoder, "dtype": dtype} if dtype else dict(config.decoder)


def note_dtype(config: Config, decoder: Mapping[str, Any], log: Path, phase: str) -> None:
    """Write in the training log what `auto` has chosen for the decoder."""
    if config.train.decoder_dtype == AUTO:
        with log.open("a") as file:
            file.write(
                json.dumps({"phase": phase, "step": 0, "seconds": 0.0, "decoder_dtype": decoder["dtype"]}) + "\n"
            )


def check_compiler() -> None:
    """Refuse `train.compile` where torch has nothing to compile with.

    Raises:
        ConfigError: there is no C++ compiler or, for a GPU, no Triton.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch.utils._triton import has_triton

    if best_device().type == "cuda":
        if not has_triton():
            raise ConfigError("train.compile needs Triton on a GPU: `pip install triton`, or say train.compile=false")
        return
    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise ConfigError(
            "train.compile needs a C++ compiler on a CPU, and there is none: install g++ (`apt-get install g++`), name "
            "another in CXX, or say train.compile=false"
        ) from error


def share_threads() -> None:
    """Divide the cores among the processes of torchrun on this machine, unless OMP_NUM_THREADS says how many each has.

    torchrun says 1 where the user says nothing, and nobody can tell the two apart: then it is told what could be.
    """
    here, cores = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), len(os.sched_getaffinity(0))
    if here == 1:
        return
    each = max(1, cores // here)
    said = os.environ.get("OMP_NUM_THREADS")
    if said is None:
        torch.set_num_threads(each)
    elif said == "1" and each > 1 and os.environ.get("LOCAL_RANK") == "0":
        say(f"train: {here} processes with one thread each on {cores} cores, which is what torchrun sets by itself: "
            f"OMP_NUM_THREADS={each} in front of it lets them use all")  # fmt: skip


def keep_freed_memory() -> bool:
    """Let glibc keep what tensors have freed for the next ones, and tell whether it does.

    By itself it gives large pieces back to Linux and gets them anew, page by page, in every step: 4 % of the time
    (SmolLM2-135M in bf16, two cores). Other C libraries go on as ever, and glibc where the environment tells it how.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _SAID):
        return False
    kept: bool = mallopt(_MAP, _MAPPED) == 1 and mallopt(_TRIM, 2**31 - 1) == 1
    return kept


def _seconds(dtype: torch.dtype) -> float:
    """Time a frozen layer there and back; the best of some."""
    device = best_device()
    layer = torch.nn.Linear(WIDTH, WIDTH, bias=False, device=device, dtype=dtype).requires_grad_(False)
    given = torch.ones(ROWS, WIDTH, device=device, dtype=dtype, requires_grad=True)
    best = float("inf")
    for _ in range(1 + TIMES):  # the first is slow for reasons of its own, and never the best
        _wait(device)
        start = time.perf_counter()
        layer(given).sum().backward()
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
