"""Any causal language model of Hugging Face, frozen."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import torch
from torch import Tensor

from toolkit.assets.locate import locate
from toolkit.errors import ConfigError
from toolkit.interfaces import DECODERS, Decoder
from toolkit.types import GenerationOptions, Outputs

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@DECODERS.register("causal_lm")
class CausalLMDecoder(Decoder):
    """Runs `model`: a folder, a hub id (`meta-llama/Llama-3.1-8B-Instruct`) or `asset:NAME`.

    `dtype` is of the frozen weights: `fp32`, `bf16` or `fp16`.
    """

    def __init__(self, *, model: str, dtype: str = "fp32") -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        if dtype not in DTYPES:
            raise ConfigError(f"decoder.dtype is one of {', '.join(DTYPES)}, not '{dtype}'")
        self.lm: Any = AutoModelForCausalLM.from_pretrained(locate(model), dtype=DTYPES[dtype])
        self.lm.requires_grad_(False)
        self.lm.eval()
        self.embedding_dim = self.lm.get_input_embeddings().embedding_dim
        self.vocabulary_size = self.lm.get_input_embeddings().num_embeddings

    def train(self, mode: bool = True) -> CausalLMDecoder:
        """Stay in evaluation mode: a frozen model has no dropout to switch on."""
        return super().train(False)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Look up input embeddings: (n,) -> (n, D)."""
        return self.lm.get_input_embeddings()(token_ids)  # type: ignore[no-any-return]

    def outputs(self, sequences: Seq[Tensor], positions: Seq[Tensor], text: int = 0) -> Outputs:
        """Run rows padded on the right and score only the M positions asked."""
        shared = _shared_prefix(sequences, min([text, *(int(p.min()) for p in positions if len(p))]))
        hidden = self._start(sequences, shared, left=False)[0].last_hidden_state
        rows = torch.cat([torch.full_like(p, i) for i, p in enumerate(positions)])
        chosen = hidden[rows, torch.cat(list(positions)) - shared]
        return Outputs(self._score(chosen), chosen)

    @torch.no_grad()
    def generate(self, sequences: Seq[Tensor], options: GenerationOptions) -> list[list[int]]:
        """Continue rows padded on the left, greedily; rows that have ended leave the batch."""
        answers: list[list[int]] = [[] for _ in sequences]
        alive = list(range(len(sequences)))
        stop = set(options.eos_token_ids)
        state, mask, position = self._start(sequences, _shared_prefix(sequences, max(map(len, sequences))), left=True)
        position = position[:, -1:]
        for step in range(options.max_new_tokens):
            tokens = self._score(state.last_hidden_state[:, -1]).argmax(-1)
            keep = []
            for i, (row, token) in enumerate(zip(alive, tokens.tolist(), strict=True)):
                if token not in stop:
                    answers[row].append(token)
                    keep.append(i)
            if not keep or step + 1 == options.max_new_tokens:
                break
            cache = state.past_key_values
            if len(keep) < len(alive):
                index = torch.tensor(keep, device=tokens.device)
                cache.batch_select_indices(index)
                tokens, mask, position = tokens[index], mask[index], position[index]
                alive = [alive[i] for i in keep]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            position = position + 1
            state = self._run(self.embed(tokens)[:, None], mask, position, past_key_values=cache, use_cache=True)
        return answers

    def _start(self, sequences: Seq[Tensor], shared: int, *, left: bool) -> tuple[Any, Tensor, Tensor]:
        """Run whole rows, their first `shared` embeddings once for all.

        The shared part is text, so nothing that is trained is behind it and it needs no gradient.

        Returns:
            the model's output past the shared part, the mask (B, shared + N) and the positions (B, N).
        """
        values, mask, positions = _pad([row[shared:] for row in sequences], left=left)
        cache: dict[str, Any] = {"use_cache": left}
        if shared:
            ones = mask.new_ones(len(sequences), shared)
            mask, positions = torch.cat([ones, mask], dim=1), positions + shared
            with torch.no_grad():
                prefix = self._run(
                    sequences[0][None, :shared],
                    ones[:1],
                    torch.arange(shared, device=mask.device)[None],
                    use_cache=True,
                ).past_key_values
            prefix.batch_repeat_interleave(len(sequences))
            cache = {"past_key_values": prefix, "use_cache": True}
        return self._run(values, mask, positions, **cache), mask, positions

    def _run(self, embeddings: Tensor, mask: Tensor, positions: Tensor, **cache: Any) -> Any:
        return self.lm.base_model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions,
            **{"use_cache": False, **cache},
        )

    def _score(self, hidden: Tensor) -> Tensor:
        """Project on the vocabulary, (M, D) -> (M, V), with the scalings that some families apply."""
        logits: Tensor = self.lm.get_output_embeddings()(hidden)
        config = self.lm.config.get_text_config()
        if getattr(config, "logits_scaling", None):  # Granite divides
            logits = logits / config.logits_scaling
        if getattr(config, "logit_scale", None):  # Cohere multiplies
            logits = logits * config.logit_scale
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma
        return torch.tanh(logits / cap) * cap if cap else logits


def _shared_prefix(sequences: Seq[Tensor], limit: int) -> int:
    """Return how many leading embeddings, `limit` at most, are the same in all rows; something is left of each."""
    limit = min(limit, *(len(row) - 1 for row in sequences))
    if len(sequences) < 2 or limit <= 0:
        return 0
    first = sequences[0][:limit]
    same = torch.ones(limit, dtype=torch.bool, device=first.device)
    for row in sequences[1:]:
        same &= (row[:limit] == first).all(-1)
    return int(same.long().cumprod(0).sum())


def _pad(sequences: Seq[Tensor], *, left: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Pad rows (n_i, D) to (B, N, D), with mask (B, N) and the positions (B, N) each row has alone."""
    side = "left" if left else "right"
    values = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_side=side)
    ones = [torch.ones(len(row), dtype=torch.long, device=values.device) for row in sequences]
    mask = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side=side)
    return values, mask, (mask.cumsum(1) - 1).clamp(min=0)
