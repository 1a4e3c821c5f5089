"""The LLM with its norms and MLPs compiled, and as it is: steps in turns, in one process.

A step is forward and backward to the inputs, as in training: rows of tokens' embeddings, about as many positions as
egs/mini has behind a prompt, of which the last are supervised. Its time is that of the processor, which a busy machine
changes least; that of compiling has the C++ compiler's in it.
"""

from __future__ import annotations

import os
import resource
import time

import torch
from torch import Tensor

from benchmarks.turns import Turn, peak_of_this_process
from benchmarks.workload import BF16, FP32, Spec, config_of
from toolkit.interfaces import Decoder
from toolkit.models.build import best_device, build_decoder

LENGTHS = (48, 44, 52, 47, 50)
"""positions of each row, from step to step"""
SUPERVISED = 12


def run(spec: Spec) -> Turn:
    """Compile, and take some steps of both."""
    if spec.cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = spec.cache
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no workers, whose time nobody could tell
    options = {**config_of(spec).decoder, "dtype": BF16 if spec.mode == BF16 else FP32}
    plain, compiled = (build_decoder(options).to(best_device()) for _ in range(2))
    compiled.compile_pieces()
    step(plain, spec.batch, LENGTHS[0])  # it makes the kernels
    spent = processor()
    slopes = step(compiled, spec.batch, LENGTHS[0])
    first = processor() - spent
    expected = step(plain, spec.batch, LENGTHS[0])
    times: dict[str, list[float]] = {"plain": [], "compiled": []}
    for number in range(spec.steps):
        sides = [("plain", plain), ("compiled", compiled)]
        for side, decoder in sides if number % 2 == 0 else sides[::-1]:
            spent = processor()
            step(decoder, spec.batch, LENGTHS[number % len(LENGTHS)])
            times[side].append(processor() - spent)
    apart = float((slopes - expected).norm() / expected.norm())
    extra = {**times, "first": first, "apart": apart}
    seconds = sum(times["compiled"])
    return Turn(seconds, seconds, spec.batch * spec.steps, peak=peak_of_this_process(), extra=extra)


def step(decoder: Decoder, rows: int, length: int) -> Tensor:
    """Run rows forward and back; returns the gradient to their embeddings, (B N, D)."""
    generator = torch.Generator().manual_seed(length)
    tokens = torch.randint(decoder.vocabulary_size, (rows, length), generator=generator).to(best_device())
    embeddings = [decoder.embed(row).detach().requires_grad_() for row in tokens]
    positions = torch.arange(max(length - SUPERVISED, 0), length, device=tokens.device)
    logits = decoder.outputs(embeddings, [positions] * rows).logits.float()
    torch.nn.functional.cross_entropy(logits, tokens[:, positions].flatten()).backward()
    if tokens.is_cuda:
        torch.cuda.synchronize()
    return torch.cat([row.grad for row in embeddings if row.grad is not None]).float()


def processor() -> float:
    """Return the seconds of processors that this process and those that it has waited for have had."""
    if torch.cuda.is_available():  # which does the work, and whose time is that of the clock
        return time.perf_counter()
    waited = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + waited.ru_utime + waited.ru_stime
