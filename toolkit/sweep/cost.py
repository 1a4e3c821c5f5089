"""What a trained adapter costs: memory, parameters, embeddings per second of speech."""

from __future__ import annotations

import resource
import sys

import torch

from toolkit.config import Config
from toolkit.models.build import best_device
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages.encode import audio_and_frames, speech_of
from toolkit.stages.imitate import asked_examples
from toolkit.types import Batch, SpeechSegment


def peak_memory() -> int:
    """Return the largest resident set that this process has had, in bytes.

    On Linux that counts what the process that started it had at that time: the sweep itself loads no model.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def threads() -> int:
    """Return how many threads computed."""
    return torch.get_num_threads()


def trained_parameters(model: SpeechLLM) -> int:
    """Count what training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@torch.no_grad()
def embedding_rate(config: Config, model: SpeechLLM) -> float:
    """Return how many embeddings the model makes of a second of speech, over what the decode stage asks about."""
    split, size = config.decode.split, config.decode.batch_size
    examples = list(asked_examples(config, split).values())
    speech = speech_of(config, model.encoder, split)
    count = 0
    for start in range(0, len(examples), size):
        batch = examples[start : start + size]
        names = tuple(example.id for example in batch)
        rows = tuple((SpeechSegment(0.0, example.duration),) for example in batch)
        given = Batch(names, rows, *audio_and_frames(speech, names)).to(best_device())
        heard = model.spans(model.speech(given), rows)
        count += sum(len(embeddings) for embeddings in heard)
    return count / sum(example.duration for example in examples)
