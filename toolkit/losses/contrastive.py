"""InfoNCE between a span of speech and the text of the same words (the bound is of arXiv 1807.03748; the use, ours)."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput

NEGATIVES = ("utterance", "batch")


@LOSSES.register("contrastive")
class ContrastiveLoss(Loss):
    """Cross-entropy of choosing a span's own words by the cosine of mean embeddings, divided by `temperature`.

    One span against its own words and those of other spans; other spans of the very same words are left out. A span
    whose words nobody knows, or with nothing to be told from, adds nothing and is not counted.

    `negatives: utterance` are the other spans of the same row, so that splitting a batch by rows changes nothing. An
    utterance that stays plain speech has none, so this wants an interleaver, and says nothing of development, which
    is plain speech. `negatives: batch` are all spans of the micro-batch, plain speech too. That breaks the law of
    losses knowingly: the same step in smaller micro-batches (`train.micro_batch_size`) or on more ranks has fewer
    negatives, and is another loss.

    No paper of those in the recipes has it: pooling, temperature and negatives are ours.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})

    def __init__(self, *, temperature: float = 0.1, negatives: str = "utterance") -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"loss.temperature must be positive, not {temperature}")
        if negatives not in NEGATIVES:
            raise ConfigError(f"loss.negatives is one of {', '.join(NEGATIVES)}, not '{negatives}'")
        self.temperature = temperature
        self.within_rows = negatives == "utterance"

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the loss over the spans that have something to be told from."""
        assert inputs.embeddings is not None
        given = inputs.embeddings
        known = [i for i, tokens in enumerate(given.tokens) if tokens]
        if not known:
            nothing = torch.zeros((), device=inputs.targets.device)
            return LossOutput(nothing, 0, {"contrastive": nothing})
        speech, text = (_means([side[i] for i in known]) for side in (given.speech, given.text))
        distinct = list(dict.fromkeys(given.tokens[i] for i in known))
        words = torch.tensor([distinct.index(given.tokens[i]) for i in known], device=speech.device)
        rows = torch.tensor([given.rows[i] for i in known], device=speech.device)
        choices = words[:, None] != words
        if self.within_rows:
            choices &= rows[:, None] == rows
        own = torch.arange(len(known), device=speech.device)
        count = int(choices.any(1).sum())
        choices[own, own] = True
        scores = (speech @ text.T / self.temperature).masked_fill(~choices, -torch.inf)
        total = functional.cross_entropy(scores, own, reduction="sum")
        return LossOutput(total, count, {"contrastive": total.detach()})


def _means(spans: list[Tensor]) -> Tensor:
    """Return the direction of the mean embedding of each span: S tensors (n, D) -> (S, D)."""
    return functional.normalize(torch.stack([span.float().mean(0) for span in spans]), dim=-1)
