"""Train: cuts, frames (or audio) and answers -> what is trained, by any loss that the recipe names."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from toolkit.config import Config, save_config
from toolkit.data.answers import AnswerStore
from toolkit.data.augmentation import copies_of, copy_of
from toolkit.data.batches import Collator
from toolkit.data.samples import SampleStore
from toolkit.data.tasks import Request, Task, choose
from toolkit.data.teacher import TeacherStore
from toolkit.data.tokenization import ChatTokenizer
from toolkit.data.views import Shares, Views
from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss, TokenAdapter
from toolkit.models.build import attach_tokens, build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages.adopt import adopt_weights
from toolkit.stages.encode import encoder_training, speech_of, verify_speech, why_audio
from toolkit.stages.engines import Engine
from toolkit.stages.imitate import (
    TextLLM,
    answering,
    asked_examples,
    asked_requests,
    development_requests,
    split_examples,
    spread,
    text_llm,
    training_tasks,
)
from toolkit.stages.machine import check_compiler, decoder_for, note_dtype
from toolkit.stages.paths import CONFIG, answers_folder, checkpoint_folder, cuts_path, with_absolute_files
from toolkit.stages.preflight import check_training
from toolkit.stages.progress import say
from toolkit.stages.ranks import Agreement, batches_of_rank, check_ranks
from toolkit.stages.settings import check_same
from toolkit.stages.steps import load_steps, size_of, views_of
from toolkit.stages.targets import join
from toolkit.stages.teacher import stored_teacher
from toolkit.stages.trainer import make_trainer
from toolkit.training.anchor import AnchoredLoss
from toolkit.training.checkpoint import identity, load_checkpoint, save_checkpoint
from toolkit.training.module import ImitationModule
from toolkit.training.waste import TimedLoader
from toolkit.types import Batch, Example

LOG = "train_log.jsonl"
"""in the experiment folder: one JSON line a step, for the report's curves"""

VALIDATED = 16
"""utterances of the development set in a forward pass, at most"""


def run(config: Config) -> Path:
    """Train, or go on with an interrupted training. Returns the checkpoint folder.

    Raises:
        ConfigError: the folder holds a training with other settings, or the settings contradict each other.
    """
    out = checkpoint_folder(config)
    config = replace(config, encoder=with_absolute_files(config.encoder))
    if not config.train.steps:
        say("train: nothing to train (train.steps=0)")
        return out
    check_same(config, out)
    if (out / "done").exists():
        say(f"train: {config.exp_dir} is trained; remove {out} to train again")
        return out
    views = views_of(config)
    encoder = encoder_training(config)
    check_training(config)
    check_ranks(config)
    if config.train.compile:
        check_compiler()
    out.mkdir(parents=True, exist_ok=True)
    decoder = decoder_for(config, out)
    model = build_model(config.encoder, config.adapter, decoder, config.cut, config.seed, encoder)
    if config.train.packing and not model.decoder.pack():
        raise ConfigError(f"train.packing: the attention of {config.decoder['model']} cannot: say train.packing=false")
    if config.train.compile and not model.decoder.compile_pieces():
        raise ConfigError(
            f"train.compile: decoder={config.decoder['name']} compiles nothing of {config.decoder['model']}: say "
            "train.compile=false"
        )
    origin = identity(model)
    loss = LOSSES.build(config.loss)
    if config.train.anchor and "student" in loss.needs:
        if isinstance(model.adapter, TokenAdapter):
            loss = AnchoredLoss(loss, config.train.anchor)
        else:
            say(f"train: no CTC anchor: adapter={config.adapter['name']} emits no tokens")
    llm = text_llm(config, model.decoder)
    training = training_examples(config, llm, loss)
    if isinstance(model.adapter, TokenAdapter):
        attach_tokens(model, transcript_tokens(training, llm.tokenizer))
    if config.train.init_from:
        load_checkpoint(model, Path(config.train.init_from))
    else:
        adopt_weights(model.adapter, config.encoder)
    stored = stored_teacher(config, llm.tokenizer, answers_folder(config, "train", llm.key), loss, training, "train")
    trainer, resume = make_trainer(config, out), out / "last.ckpt"
    if trainer.is_global_zero:
        verify_speech(config, model.encoder, "train")
        save_config(config, out / CONFIG)
        if not resume.exists():
            _begin_log(config)
    start = torch.load(resume, weights_only=True)["global_step"] if resume.exists() else 0
    if start:
        say(f"train: goes on at step {start} of {config.train.steps}")
    _announce(model, training, config)
    collate = _collator(config, llm.tokenizer, model, loss, "train", views, stored)
    steps = load_steps(config, training, collate, model, loss, start, (trainer.global_rank, trainer.world_size))
    module = _module(config, model, loss, steps)
    if trainer.is_global_zero and not start:
        note_dtype(config, decoder, module.log_path, module.phase)
    trainer.callbacks.append(Agreement(config, start, training))
    development = _loader(batches_of_rank(_Development(config, llm, model, loss), config, trainer))
    try:
        trainer.fit(module, steps, development, ckpt_path=str(resume) if start else None)
    except SystemExit as exit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from exit
    if trainer.is_global_zero:
        say(f"train: {module.waste.summary()}")
        if seconds := model.decoder.compile_seconds:
            say(f"train: compiling took {seconds:.0f} s")
            module.write_log({"compile_seconds": round(seconds, 2)})
        save_checkpoint(model, out, {**origin, "steps": str(trainer.global_step)})
        (out / "done").write_text(f"{trainer.global_step} steps, {module.elapsed:.0f} s\n")
        resume.unlink(missing_ok=True)
    return out


def _begin_log(config: Config) -> None:
    """Begin the log of a new training with that of what it starts from, so that the report shows the whole way."""
    log = Path(config.exp_dir) / LOG
    log.unlink(missing_ok=True)
    before = Path(config.train.init_from).parent / LOG
    if config.train.init_from and before.exists():
        shutil.copyfile(before, log)


def training_examples(config: Config, llm: Engine, loss: Loss) -> list[Example]:
    """Return what to train on: transcripts alone for CTC, else every answered request of the recipe.

    Raises:
        DataError: a request has no answer yet.
    """
    if "student" not in loss.needs:
        return with_copies(config, list(split_examples(config, "train").values()))
    examples = asked_examples(config, "train")
    tasks = training_tasks(config)
    trained = choose(tasks, config.imitate.use)
    requests = asked_requests(config, examples, trained)
    return answered(config, llm, requests, examples, tasks, "train")


def with_copies(config: Config, originals: list[Example]) -> list[Example]:
    """Add the distorted copies that `encode.copies` asks for."""
    copies, longest = config.encode.copies, config.prepare.max_duration
    return originals + [copy_of(e, n) for e in originals for n in copies_of(e.duration, copies, longest)]


def answered(
    config: Config,
    llm: Engine,
    requests: list[Request],
    examples: dict[str, Example],
    tasks: dict[str, Task],
    split: str,
) -> list[Example]:
    """Join requests with their targets: the LLM's answer, or the transcript or label where the task says so."""
    store = AnswerStore(answers_folder(config, split, answering(config, llm).key), llm.max_new_tokens)
    joined = join(store, requests, examples, tasks, config.imitate.filters if split == "train" else ())
    for line in joined.report(split):
        say(f"train: {line}")
    return joined.examples


def transcript_tokens(examples: list[Example], tokenizer: ChatTokenizer) -> Tensor:
    """Return the decoder's tokens that occur in the training transcripts, sorted: (K,)."""
    said = {utterance.transcript for example in examples for utterance in example.utterances}
    seen = {token for text in said for token in tokenizer.transcript(text)}
    return torch.tensor(sorted(seen))


def _collator(
    config: Config,
    tokenizer: ChatTokenizer,
    model: SpeechLLM,
    loss: Loss,
    split: str,
    views: Views,
    stored: TeacherStore | None = None,
) -> Collator:
    speech = speech_of(config, model.encoder, split)
    return Collator(
        tokenizer, views, speech.__getitem__, "teacher" in loss.needs, isinstance(speech, SampleStore), stored
    )


class _Development(torch.utils.data.Dataset[Batch]):
    """A fixed part of the development set, as plain speech, under the training tasks in seen wordings."""

    def __init__(self, config: Config, llm: TextLLM, model: SpeechLLM, loss: Loss) -> None:
        self.batches: list[list[Example]] = []
        if not cuts_path(config, "dev").exists():
            return
        examples = asked_examples(config, "dev")
        chosen: list[Example] = list(examples.values())
        if "student" in loss.needs:
            tasks = training_tasks(config)
            requests = development_requests(config, examples, tasks)
            chosen = answered(config, llm, requests, examples, tasks, "dev")
        limit = config.train.validation_utterances
        chosen = spread(chosen, limit)
        chosen.sort(key=lambda example: example.duration)
        size = min(VALIDATED, config.train.micro_batch_size or VALIDATED)
        self.batches = [chosen[i : i + size] for i in range(0, len(chosen), size)]
        views = replace(views_of(config), shares=Shares(speech=1.0))
        stored = stored_teacher(config, llm.tokenizer, answers_folder(config, "dev", llm.key), loss, chosen, "dev")
        self.collate = _collator(config, llm.tokenizer, model, loss, "dev", views, stored)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.collate(self.batches[index], 0, 0)


def _module(config: Config, model: SpeechLLM, loss: Loss, steps: TimedLoader) -> ImitationModule:
    return ImitationModule(
        model,
        loss,
        learning_rate=config.train.learning_rate,
        weight_decay=config.train.weight_decay,
        steps=config.train.steps,
        max_seconds=60 * config.train.max_minutes,
        warmup=config.train.warmup,
        clip=config.train.clip,
        seed=config.seed,
        log_path=Path(config.exp_dir) / LOG,
        phase="imitation" if "student" in loss.needs else "warm_start",
        encoder_learning_rate=config.train.encoder_learning_rate,
        waited=lambda: steps.waited,
    )


def _loader(data: Any) -> Any:
    """Wrap a dataset whose items are whole steps already."""
    return DataLoader(data, batch_size=None, num_workers=0)


def _announce(model: SpeechLLM, training: list[Example], config: Config) -> None:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    spoken = {utterance.id: utterance.duration for example in training for utterance in example.utterances}
    hours = sum(spoken.values()) / 3600
    if without := sum(not all(utterance.words for utterance in example.utterances) for example in training):
        say(f"train: {without} of {len(training)} examples have no word times: plain speech, and nothing to align")
    shares = config.train
    mixes = shares.speech_share + shares.text_share < 1 or shares.speech_share_start is not None
    if config.interleaver["name"] != "whole" and not mixes:
        say(
            f"train: interleaver={config.interleaver['name']} is never asked: with train.speech_share="
            f"{shares.speech_share:g} no utterance is mixed; lower it, to 0.5 for instance"
        )
    if config.train.text_share and not any(p.requires_grad for p in model.decoder.parameters()):
        say(f"train: the decoder is frozen, so nothing is learnt from train.text_share={config.train.text_share:g}")
    if why := why_audio(config):
        say(f"train: frames come of the audio in every step, none of the cache: {why}")
    limit = f", at most {config.train.max_minutes:g} minutes" if config.train.max_minutes else ""
    say(
        f"train: {trained / 1e6:.1f} M parameters of {(trained + frozen) / 1e6:.1f} M on {len(training)} examples "
        f"from {hours:.2f} h of speech; {config.train.steps} steps of {size_of(config)}{limit}"
    )
