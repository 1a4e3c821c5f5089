"""The steps of a training: which examples, in which order, at which cost. `train` and `plan` must not disagree."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from toolkit.config import Config
from toolkit.data.batches import Collator, StepStream
from toolkit.data.budget import Budget
from toolkit.data.costs import Costs, heard_of, row_costs
from toolkit.data.drawn_costs import DrawnCosts
from toolkit.data.tokenization import ChatTokenizer
from toolkit.data.views import Shares, Views
from toolkit.interfaces import INTERLEAVERS, Loss
from toolkit.models.build import best_device
from toolkit.models.speech_llm import SpeechLLM
from toolkit.training.waste import TimedLoader
from toolkit.types import Example

CPU_PASS = 640
"""positions of a forward pass on a CPU: more at once are no faster, and take the memory of so many more"""


def views_of(config: Config) -> Views:
    """Return what of each example is plain speech, text or mixed.

    Raises:
        ConfigError: shares that cannot be, or no such interleaver.
    """
    given = config.train
    shares = Shares(given.speech_share, given.text_share, given.speech_share_start, given.curriculum_steps)
    return Views(INTERLEAVERS.build(config.interleaver), shares, config.seed)


def costs_of(
    examples: Seq[Example],
    model: SpeechLLM,
    tokenizer: ChatTokenizer | None,
    loss: Loss,
    views: Views,
    unknown: int = 0,
) -> Costs:
    """Return the positions of each example's row; `unknown` is the length of an answer that is not there yet."""
    answers, parts = "student" in loss.needs, (model.encoder, model.adapter, tokenizer)
    heard = heard_of(examples, *parts, answers=answers)
    if not answers:
        alone = [sum(speech) for speech in heard]
        return lambda epoch, step: alone
    plain = row_costs(examples, heard, tokenizer, opened=model.decoder.opens_once, unknown=unknown)
    if views.shares.plain:
        return lambda epoch, step: plain
    return DrawnCosts(examples, plain, heard, *parts, views, model.cut)


def budget_of(config: Config) -> Budget | None:
    """Return what steps and forward passes may cost; None where they go by rows."""
    given, forward = config.train, config.train.micro_batch_tokens
    if forward is None:
        forward = 0 if given.micro_batch_size or best_device().type != "cpu" else CPU_PASS
    return Budget(given.batch_tokens, forward) if given.batch_tokens or forward else None


def size_of(config: Config) -> str:
    """Say how large a step is."""
    given = config.train
    return f"at most {given.batch_tokens} positions" if given.batch_tokens else str(given.batch_size)


def load_steps(
    config: Config,
    examples: Seq[Example],
    collate: Collator,
    model: SpeechLLM,
    loss: Loss,
    start: int,
    place: tuple[int, int],
) -> TimedLoader:
    """Load the steps of a training from `start`, as the rank `place[0]` of `place[1]` has them."""
    given = config.train
    costs = costs_of(examples, model, collate.tokenizer, loss, collate.views)
    rows, budget = (given.batch_size, given.micro_batch_size), budget_of(config)
    stream = StepStream(examples, costs, collate, *rows, (start, given.steps), config.seed, *place, budget)
    # Forked, a worker has the open caches; started anew it would have to be sent them.
    context = "fork" if given.workers else None
    return TimedLoader(stream, batch_size=None, num_workers=given.workers, multiprocessing_context=context)
