"""The decoder `new_part`. Say here which idea it is, and whose: paper, arXiv id."""

from collections.abc import Sequence as Seq

from torch import Tensor

from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.errors import ConfigError
from toolkit.interfaces import DECODERS
from toolkit.types import Outputs


@DECODERS.register("new_part")
class NewPartDecoder(CausalLMDecoder):
    """Runs `model` as `causal_lm` does and divides its scores by `temperature` in training."""

    # What is keyword-only is configuration: `decoder.temperature=2`.
    def __init__(self, *, model: str, dtype: str = "fp32", temperature: float = 1.0) -> None:
        super().__init__(model=model, dtype=dtype)
        if temperature <= 0:
            raise ConfigError(f"decoder.temperature must be positive, not {temperature}")
        self.temperature = temperature

    def outputs(
        self,
        sequences: Seq[Tensor],
        positions: Seq[Tensor],
        prefixes: Seq[tuple[int, ...]] = (),
        audio: Seq[Tensor] = (),
    ) -> Outputs:
        """Score the M positions asked, as `causal_lm` does: logits (M, V) / temperature, hidden (M, D)."""
        outputs = super().outputs(sequences, positions, prefixes, audio)
        return Outputs(outputs.logits / self.temperature, outputs.hidden)
