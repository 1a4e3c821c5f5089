"""The law of decoders: a batch, its padding, its order and what its rows share change nothing, and positions agree."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from toolkit.interfaces import DECODERS, Decoder
from toolkit.testing.laws import DETERMINISM, ORDER, STATE, law, refuses_unknown_keys, same
from toolkit.types import GenerationOptions, Outputs

OPTIONS = GenerationOptions(8, (1,))
NEAR = 1e-3
"""by which a token may miss the best score: two ways to the same numbers differ in their last digits"""


@dataclass(frozen=True)
class Rows:
    """Rows for a decoder: a prompt, speech and text each; two of the prompts are the same, all begin alike."""

    embeddings: list[Tensor]
    positions: list[Tensor]
    prefixes: list[tuple[int, ...]]
    audio: list[Tensor]

    @classmethod
    def of(cls, decoder: Decoder) -> Rows:
        """Make three rows of different lengths; speech is as large as embeddings are, and is none of them."""
        generator = torch.Generator().manual_seed(0)
        heads = [tuple(range(2, 8)), (2, 3, 5), tuple(range(2, 8))]
        embeddings, positions, audio = [], [], []
        for head, heard, read in zip(heads, (3, 6, 1), (2, 4, 7), strict=True):
            ids = torch.randint(2, decoder.vocabulary_size, (heard + read,), generator=generator)
            rest = decoder.embed(ids).detach()
            speech = rest[:heard].flip(-1)
            embeddings.append(torch.cat([decoder.embed(torch.tensor(head)).detach(), speech, rest[heard:]]))
            length = len(embeddings[-1])
            positions.append(torch.tensor([len(head) + heard - 1, length - 2, length - 1]))
            audio.append(torch.tensor([False] * len(head) + [True] * heard + [False] * read))
        return cls(embeddings, positions, heads, audio)

    def only(self, rows: Seq[int]) -> Rows:
        """Return some of the rows, in the order given."""
        fields = (self.embeddings, self.positions, self.prefixes, self.audio)
        return Rows(*([field[i] for i in rows] for field in fields))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.embeddings)


def check_decoder(name: str, **options: Any) -> None:
    """Check the law of decoders: a batch gives what each row gives alone, in training and generation.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    refuses_unknown_keys(DECODERS, name)
    decoder = DECODERS.build({"name": name, **options}).eval()
    width = decoder.embed(torch.tensor([2, 3])).shape[1]
    law(width == decoder.embedding_dim, name, "embeddings have embedding_dim values")
    rows = Rows.of(decoder)
    with torch.no_grad():
        together = _check_training(name, decoder, rows)
    _check_gradient(name, decoder, rows)
    _check_generation(name, decoder, rows)
    again = DECODERS.build({"name": name, **options}).eval()
    again.load_state_dict(decoder.state_dict())
    with torch.no_grad():
        same([together.logits], [_outputs(again, rows).logits], name, STATE)
    _check_text_llm(name, decoder, rows)


def _outputs(decoder: Decoder, rows: Rows, *, prefixes: bool = False) -> Outputs:
    return decoder.outputs(rows.embeddings, rows.positions, rows.prefixes if prefixes else (), rows.audio)


def _check_training(name: str, decoder: Decoder, rows: Rows) -> Outputs:
    together = _outputs(decoder, rows)
    alone = [_outputs(decoder, rows.only([i])) for i in range(len(rows))]
    law(together.logits.shape == (9, decoder.vocabulary_size), name, "logits are at the positions asked")
    same([together.logits], [_outputs(decoder, rows).logits], name, DETERMINISM)
    shuffled = _outputs(decoder, rows.only([2, 0, 1])).logits
    same(together.logits.split(3), [shuffled.split(3)[i] for i in (1, 2, 0)], name, ORDER)
    same([together.logits], [torch.cat([a.logits for a in alone])], name, "training: a batch is its rows alone")
    same([together.hidden], [torch.cat([a.hidden for a in alone])], name, "hidden states are too")
    nowhere = [torch.zeros_like(mask) for mask in rows.audio]
    silent = decoder.outputs(rows.embeddings, rows.positions, (), nowhere).logits
    read = decoder.outputs(rows.embeddings, rows.positions).logits
    same([read], [silent], name, "masks of no speech change nothing")
    shared = _outputs(decoder, rows, prefixes=True)
    same([together.logits], [shared.logits], name, "shared prefixes change nothing")
    return together


def _check_gradient(name: str, decoder: Decoder, rows: Rows) -> None:
    """Look at what reaches the rows behind their prompts, as an adapter would get it."""
    gradients = []
    for prefixes in (False, True):
        leaves = [row.clone().requires_grad_() for row in rows.embeddings]
        own = Rows(leaves, rows.positions, rows.prefixes, rows.audio)
        logits = _outputs(decoder, own, prefixes=prefixes).logits
        scores = logits.log_softmax(-1)[:, 3].sum()
        if scores.requires_grad:
            scores.backward()
        held = [row.new_zeros(row.shape) if row.grad is None else row.grad for row in leaves]
        gradients.append([row[mask] for row, mask in zip(held, rows.audio, strict=True)])
    reached = all(bool((row.abs().sum(1) > 0).all()) for row in gradients[0])
    law(reached, name, "a gradient reaches the speech through the frozen model")
    largest = max(float(row.abs().max()) for row in gradients[0])
    alone, shared = ([row / largest for row in side] for side in gradients)
    same(alone, shared, name, "shared prefixes lose no gradient")


def _check_generation(name: str, decoder: Decoder, rows: Rows) -> None:
    tokens = decoder.generate(rows.embeddings, OPTIONS, (), rows.audio)
    each = [rows.only([i]) for i in range(len(rows))]
    alone = [decoder.generate(row.embeddings, OPTIONS, (), row.audio)[0] for row in each]
    law(tokens == alone, name, "generation: a batch is its rows")
    prefixed = decoder.generate(rows.embeddings, OPTIONS, rows.prefixes, rows.audio)
    law(prefixed == tokens, name, "generation: shared prefixes change nothing")
    for prefixes in ((), rows.prefixes):
        waiting = decoder.generate(rows.embeddings, replace(OPTIONS, rows=2), prefixes, rows.audio)
        law(waiting == tokens, name, "generation: rows that wait for others to end say the same")
    for row, audio, answer in zip(rows.embeddings, rows.audio, tokens, strict=True):
        ended = len(answer) < OPTIONS.max_new_tokens
        said = torch.tensor([*answer, OPTIONS.eos_token_ids[0]] if ended else answer)
        whole = torch.cat([row, decoder.embed(said[:-1]).detach()])
        mask = torch.cat([audio, torch.zeros(len(said) - 1, dtype=torch.bool)])
        with torch.no_grad():
            scores = decoder.outputs([whole], [torch.arange(len(row) - 1, len(whole))], (), [mask]).logits
        missed = scores.amax(1) - scores.gather(1, said[:, None])[:, 0]
        law(bool((missed <= NEAR).all()), name, "training scores highest what generation says")


def _check_text_llm(name: str, decoder: Decoder, rows: Rows) -> None:
    """Change all that training changes, as after some steps, and look at the text LLM inside. Comes last."""
    outputs = []
    trained = decoder.trained()
    for changed in (False, True):
        with torch.no_grad(), decoder.as_text_llm():
            outputs.append(_outputs(decoder, rows).logits)
        if not changed:
            for parameter in (p for key, p in decoder.named_parameters() if key in trained):
                parameter.data = parameter.data + 0.3 * torch.randn_like(parameter)
    same(outputs[:1], outputs[1:], name, "as_text_llm is the text LLM whatever was trained")
