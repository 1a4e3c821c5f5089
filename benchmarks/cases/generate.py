"""Answering speech: as the decode stage does, against Hugging Face's `generate`, one question at a time with its cache.

Both sides begin at the encoder's frames and run in fp32; their tokens must be the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.options import Options
from benchmarks.results import Figure
from toolkit.config import load_config
from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.features import FrameCache
from toolkit.models.build import build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages import imitate
from toolkit.stages.decode import spoken_batch, spoken_plans, spoken_rows, trained_model
from toolkit.stages.encode import fill_cache, sample_store
from toolkit.stages.fill import batches_ahead
from toolkit.stages.imitate import TextLLM
from toolkit.stages.paths import CONFIG

FIGURES = ("generate_vs_one_by_one",)
Tokens = dict[Question, list[int]]


@dataclass
class Asked:
    """A model, and questions about speech."""

    model: SpeechLLM
    llm: TextLLM
    frames: FrameCache
    questions: list[Question]
    heard: str
    """whose adapter it is"""
    said: Tokens = field(default_factory=dict)

    def together(self) -> Tokens:
        """Answer as the decode stage does."""
        self.said = {}
        with tempfile.TemporaryDirectory() as folder:
            store, rows = AnswerStore(Path(folder), self.llm.max_new_tokens), self.llm.rows
            for _ in store.fill(self.questions, self._answer, rows * batches_ahead(len(self.questions), rows, 1)):
                pass
        return self.said

    def _answer(self, questions: Seq[Question]) -> list[Answer]:
        tokens = self.model.answer(spoken_rows(self.model, self.llm, questions, self.frames), self.llm.options)
        self.said |= dict(zip(questions, tokens, strict=True))
        return [Answer("", complete=True) for _ in questions]

    @torch.no_grad()
    def one_by_one(self) -> Tokens:
        """Answer by `generate` of transformers, a question at a time."""
        answers: Tokens = {}
        lm: Any = self.model.decoder.lm
        stops = list(self.llm.options.eos_token_ids)
        for question in self.questions:
            row = self.llm.tokenizer.question(question.prompt, *spoken_plans(question))
            batch = spoken_batch(self.frames, [question], [row])
            inputs = self.model.rows(self.model.speech(batch), batch.sequences)[0].embeddings[None]
            tokens = lm.generate(
                inputs_embeds=inputs, attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long), do_sample=False,
                use_cache=True, max_new_tokens=self.llm.max_new_tokens, eos_token_id=stops, pad_token_id=stops[0],
            )[0].tolist()  # fmt: skip
            answers[question] = tokens[:-1] if tokens[-1] in stops else tokens
        return answers


def asked(options: Options) -> Asked:
    """Ask every task about the utterances, of the trained model that is there or else of an untrained one."""
    config = options.config()
    exp = options.exp or next(
        (found for name in ("mini-mtbi", "demo-mtbi") if (found := options.data.parent / "exp" / name).is_dir()), None
    )
    if exp is not None and (exp / "checkpoint" / CONFIG).exists():
        saved = load_config(exp / "checkpoint" / CONFIG)
        config = replace(
            saved, exp_dir=str(exp), data_dir=config.data_dir, encode=config.encode, imitate=config.imitate
        )
        model, heard = trained_model(config), "a trained adapter"
    else:
        model = build_model(config.encoder, config.adapter, config.decoder, config.cut, config.seed).eval()
        heard = "an untrained adapter, so that answers are as long as they may be"
    llm = replace(imitate.text_llm(config, model.decoder), rows=64)
    frames = fill_cache(config, model.encoder, "train", sample_store(config, model.encoder, "train"))
    examples = imitate.split_examples(config, "train")
    tasks = list(imitate.training_tasks(config).values())
    requests = imitate.asked_requests(config, examples, [task for task in tasks if not task.held_out])
    durations = {name: example.duration for name, example in examples.items()}
    questions = [Question.of(request, {name: name for name in examples}, durations) for request in requests]
    return Asked(model, llm, frames, list(dict.fromkeys(questions)), heard)


def run(options: Options) -> list[Figure]:
    """Measure."""
    asking = asked(options)
    values, processor, different = compare(asking.one_by_one, asking.together, options)
    count = len(asking.questions)
    return [
        Figure(
            "generate_vs_one_by_one",
            "answers to speech a second, 64 at once, by those of `generate` one at a time with its cache",
            values,
            goal=6.0,
            equal=different == 0,
            notes=[
                f"{count} questions about speech, {asking.heard}, at most {asking.llm.max_new_tokens} tokens, fp32",
                f"rows with other tokens: {different} of {count}",
                f"of processor time {min(processor):.2f} to {max(processor):.2f} times",
            ],
        )
    ]


def compare(
    slow: Callable[[], dict[Question, Any]], fast: Callable[[], dict[Question, Any]], options: Options
) -> tuple[list[float], list[float], int]:
    """Let both answer by turns; return the ratios of time and of processor time, and how many answers differ."""
    values, processor, different = [], [], 0
    for repeat in range(options.repeats):
        took: dict[bool, tuple[float, float, dict[Question, Any]]] = {}
        for quick in (False, True) if repeat % 2 == 0 else (True, False):
            begun, spent = time.perf_counter(), time.process_time()
            answers = (fast if quick else slow)()
            took[quick] = time.perf_counter() - begun, time.process_time() - spent, answers
        values.append(took[False][0] / took[True][0])
        processor.append(took[False][1] / took[True][1])
        different = max(different, sum(took[True][2][question] != said for question, said in took[False][2].items()))
        options.say(
            f"  repeat {repeat + 1}: one at a time {took[False][0]:.1f} s, together {took[True][0]:.1f} s, "
            f"{values[-1]:.2f} times ({processor[-1]:.2f} of processor time); {different} differ"
        )
    return values, processor, different
