"""The memory of one process by part. Each item says its formula, so that it can be argued with.

Not counted: what CUDA itself takes (about a gigabyte) and what an allocator loses between blocks.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from torch import Tensor

from toolkit.config import Config
from toolkit.decoders.causal_lm import DTYPES, FEWER, MANY, CausalLMDecoder
from toolkit.decoders.row_cache import ROOM
from toolkit.interfaces import Decoder, Loss, TokenAdapter
from toolkit.models.speech_llm import SpeechLLM
from toolkit.plan.held import held_by_adapter
from toolkit.plan.rows import Row
from toolkit.plan.sizes import PartSize, path, planned_dtype

FLOAT = 4
"""bytes of a number in fp32"""
VOCABULARY = 40_000
"""tokens that the transcripts of a large English corpus are made of, for adapters that emit tokens; ours, assumed"""
LABEL_SCORES = {False: 4, True: 7}
"""whether CTC runs beside an answer -> copies of the label scores: those that autograd holds, and a gradient"""
DROPOUT = 2
"""times what goes into and comes out of its matrices: what norms and dropout of an adapter add to it"""


@dataclass(frozen=True)
class Item:
    """One share of the memory."""

    what: str
    bytes: int
    how: str
    """the formula, in words"""


def total(items: Seq[Item]) -> int:
    """Add up."""
    return sum(item.bytes for item in items)


def training_memory(
    model: SpeechLLM, parts: Seq[PartSize], config: Config, loss: Loss, row: Row, rows: int, gpus: int, labels: int
) -> tuple[Item, ...]:
    """Estimate a training step at its peak.

    Args:
        model: of the training.
        parts: its sizes.
        config: its configuration.
        loss: its loss.
        row: the longest.
        rows: in one forward pass of one process.
        gpus: processes.
        labels: tokens that a token adapter emits; 0 for other adapters.
    """
    trained = sum(part.trained_weights for part in parts)
    items = [Item(f"weights: {part.part}", part.weights, _said(part)) for part in parts]
    items += [
        Item("gradients", trained, "as large as what is trained"),
        Item("AdamW", 2 * trained, "two states for each trained number"),
    ]
    if gpus > 1:
        items.append(Item("gradients between processes", trained, "DDP keeps a copy in buckets"))
    if config.train.encoder != "frozen":
        items.append(_kept("encoder", list(path(model.encoder)), rows * row.frames, FLOAT))
    items.append(_adapter(model, row, rows))
    if labels:
        items += _labels(model, row, rows, labels, anchored="student" in loss.needs and bool(config.train.anchor))
    if "student" in loss.needs:
        items += _decoder(model.decoder, config, loss, row, rows)
    heard = row.frames * model.encoder.output_dim
    items.append(Item("frames", FLOAT * rows * heard, "rows x frames x channels in fp32"))
    return tuple(items)


def answering_memory(decoder: Decoder, config: Config, weights: int, length: int, rows: int) -> tuple[Item, ...]:
    """Estimate generation: weights, what attention keeps of every token, and one token's logits.

    Args:
        decoder: of the model.
        config: its configuration.
        weights: bytes of all that is loaded.
        length: of the longest row, in tokens.
        rows: together.
    """
    size = DTYPES[config.decoder.get("dtype", "fp32")].itemsize
    items = [Item("weights", weights, "in decoder.dtype")]
    if isinstance(decoder, CausalLMDecoder):
        # A row that has just begun stands in the cache of one that is about to end.
        held = length + config.imitate.max_new_tokens + ROOM
        kept = rows * held * _keys_and_values(decoder) * size
        items.append(Item("keys and values", kept, "rows x steps x layers x 2 x heads of keys x their width"))
    scores = rows * decoder.vocabulary_size * (size + FLOAT)
    return (*items, Item("logits", scores, "rows x vocabulary"))


def encoding_memory(model: SpeechLLM, weights: int, frames: int, rows: int) -> tuple[Item, ...]:
    """Estimate the encode stage: nothing is kept from layer to layer but what the widest is at work on."""
    widest = max((sum(matrix.shape[:2]) for matrix in path(model.encoder)), default=0)
    at_work = 2 * FLOAT * rows * frames * widest
    return (
        Item("weights", weights, "in fp32"),
        Item("widest layer", at_work, "2 x rows x frames x (what goes into its largest matrix + what comes out)"),
    )


def _said(part: PartSize) -> str:
    return f"{(part.trained + part.frozen) / 1e6:,.1f} M parameters, {part.trained / 1e6:,.1f} M of them trained"


def _kept(what: str, matrices: list[Tensor], positions: int, size: int) -> Item:
    """Estimate what the backward pass needs of a part: of each matrix on its way, what goes in and what comes out."""
    widths = sum(matrix.shape[0] + matrix.shape[1] for matrix in matrices)
    how = f"{positions:,} positions x {widths:,} numbers into and out of its matrices x {size} bytes"
    return Item(f"activations: {what}", positions * widths * size, how)


def _adapter(model: SpeechLLM, row: Row, rows: int) -> Item:
    """Count what an adapter leaves for the backward pass, or estimate it where it cannot be run without values."""
    adapter, width = model.adapter, model.encoder.output_dim
    held = held_by_adapter(adapter, rows, row.frames, width) if type(adapter).exact_lengths else None
    if held is not None:
        return Item("activations: adapter", held, "counted in a forward pass on the meta device")
    stride = adapter.token_stride if isinstance(adapter, TokenAdapter) else 1
    rule = _kept("adapter", list(path(adapter, trained=True)), rows * -(-row.frames // stride), FLOAT)
    return Item(rule.what, DROPOUT * rule.bytes, f"{DROPOUT} x {rule.how}, at most")


def _decoder(decoder: Decoder, config: Config, loss: Loss, row: Row, rows: int) -> list[Item]:
    size = DTYPES[planned_dtype(config) or config.decoder.get("dtype", "fp32")].itemsize
    # The head over words is run at the supervised positions alone, and is counted with the logits.
    matrices = [m for m in path(decoder) if decoder.vocabulary_size not in m.shape]
    frozen, trained = ([m for m in matrices if m.requires_grad == mine] for mine in (False, True))
    items = [_kept("decoder", frozen, rows * row.tokens, size)]
    if isinstance(decoder, CausalLMDecoder) and decoder.kept.most:
        items.append(Item("prompts kept", decoder.kept.most, "decoder.keep_prefixes, at most"))
    if trained:
        items.append(_kept("decoder's LoRA", trained, rows * row.tokens, FLOAT))
    copies = size + 3 * FLOAT + ("teacher" in loss.needs) * (size + 2 * FLOAT)
    scores, what = rows * row.answer * decoder.vocabulary_size, f"{rows * row.answer:,} supervised positions"
    if isinstance(decoder, CausalLMDecoder) and scores > MANY:
        scores, what = FEWER, f"{FEWER // decoder.vocabulary_size:,} of {what} at a time"
    how = f"{what} x vocabulary x {copies} bytes (logits, logarithms, gradient)"
    return [*items, Item("logits", scores * copies, how)]


def _labels(model: SpeechLLM, row: Row, rows: int, labels: int, *, anchored: bool) -> list[Item]:
    assert isinstance(model.adapter, TokenAdapter)
    steps = -(-row.frames // model.adapter.token_stride)
    table = 2 * labels * model.decoder.embedding_dim * FLOAT
    copies = LABEL_SCORES[anchored]
    return [
        Item("adapter's tokens", table, f"{labels:,} tokens x width, as they are and centred"),
        Item("label scores", copies * rows * steps * labels * FLOAT, f"{copies} x rows x {steps} steps x tokens, fp32"),
    ]


def _keys_and_values(decoder: CausalLMDecoder) -> int:
    """Return how many numbers attention keeps of a token."""
    config = decoder.lm.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width)
