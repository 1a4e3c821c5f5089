"""Distance of speech embeddings from those of the transcript's tokens: the input loss of DiVA (arXiv 2410.02678)."""

from typing import ClassVar

import torch

from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, Loss
from toolkit.types import LossInputs, LossOutput

UNITS = ("token", "span")


@LOSSES.register("embedding")
class EmbeddingLoss(Loss):
    """Euclidean distance, not squared, of a span's last n embeddings from its n tokens, in order (DiVA).

    What comes before them is free: queries that a causal adapter may use as it likes. A span of fewer embeddings
    than tokens, which DiVA's 448 queries never are, is compared with its last tokens (ours). A span whose words
    nobody knows adds nothing. An utterance that stays speech is one span, and its words are the transcript.

    DiVA takes the mean over all tokens of a batch, beside the mean of `hidden` over its answers, weight 1 each.
    `per: token` is that by itself. Beside another loss, whose items `weighted` counts, `per: span` weighs alike: the
    mean over the tokens of each span, summed over spans, so that a batch may be split.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})

    def __init__(self, *, per: str = "token") -> None:
        super().__init__()
        if per not in UNITS:
            raise ConfigError(f"loss.per is one of {', '.join(UNITS)}, not '{per}'")
        self.mean = per == "span"

    def forward(self, inputs: LossInputs) -> LossOutput:
        """Sum the distance over tokens, or over spans."""
        assert inputs.embeddings is not None
        total, count = torch.zeros((), device=inputs.targets.device), 0
        for speech, text in zip(inputs.embeddings.speech, inputs.embeddings.text, strict=True):
            if n := min(len(speech), len(text)):
                # The norm has a gradient of 0 and not NaN where the two agree.
                distances = torch.linalg.vector_norm(speech[-n:].float() - text[-n:].float(), dim=-1)
                total = total + (distances.mean() if self.mean else distances.sum())
                count += 1 if self.mean else n
        return LossOutput(total, count, {"embedding": total.detach()})
