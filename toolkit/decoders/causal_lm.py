"""Any causal language model of Hugging Face, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from itertools import takewhile
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from toolkit.assets.pretrained import pretrained
from toolkit.errors import ConfigError
from toolkit.interfaces import DECODERS, Decoder
from toolkit.types import GenerationOptions, Outputs

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@DECODERS.register("causal_lm")
class CausalLMDecoder(Decoder):
    """Runs `model`: a folder, a hub id (`meta-llama/Llama-3.1-8B-Instruct`) or `asset:NAME`.

    `dtype` is of the frozen weights: `fp32`, `bf16` or `fp16`. `loading` is how else transformers is to load them.
    """

    def __init__(self, loading: Mapping[str, Any] = MappingProxyType({}), *, model: str, dtype: str = "fp32") -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        if dtype not in DTYPES:
            raise ConfigError(f"decoder.dtype is one of {', '.join(DTYPES)}, not '{dtype}'")
        self.lm, _ = pretrained(AutoModelForCausalLM, model, dtype=DTYPES[dtype], **loading)
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

    def outputs(
        self,
        sequences: Seq[Tensor],
        positions: Seq[Tensor],
        prefixes: Seq[tuple[int, ...]] = (),
        audio: Seq[Tensor] = (),
    ) -> Outputs:
        """Run rows padded on the right and score only the M positions asked."""
        if any(len(p) and int(p.min()) < len(prefix) for p, prefix in zip(positions, prefixes, strict=False)):
            prefixes = ()
        state, _, _, skipped = self._start(sequences, prefixes, audio, left=False)
        rows = torch.cat([torch.full_like(p, i) for i, p in enumerate(positions)])
        chosen = state.last_hidden_state[rows, torch.cat(list(positions)) - skipped[rows]]
        return Outputs(self._score(chosen), chosen)

    @torch.no_grad()
    def generate(
        self,
        sequences: Seq[Tensor],
        options: GenerationOptions,
        prefixes: Seq[tuple[int, ...]] = (),
        audio: Seq[Tensor] = (),
    ) -> list[list[int]]:
        """Continue rows padded on the left, greedily; rows that have ended leave the batch."""
        answers: list[list[int]] = [[] for _ in sequences]
        alive = list(range(len(sequences)))
        stop = set(options.eos_token_ids)
        state, mask, position, _ = self._start(sequences, prefixes, audio, left=True)
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

    def _start(
        self, sequences: Seq[Tensor], prefixes: Seq[tuple[int, ...]], audio: Seq[Tensor], *, left: bool
    ) -> tuple[Any, Tensor, Tensor, Tensor]:
        """Run whole rows: what all open with once, each different prefix once, then the rest of every row.

        A prefix is text, so no adapter is behind it and it needs no gradient; who trains on text too gives none.

        Returns:
            the model's output past the prefixes, the mask (B, P + N), the positions (B, N), and the length (B,)
            of each row's prefix, which is not in the output.
        """
        device = sequences[0].device
        common = _common(prefixes) if len(sequences) > 1 else 0
        if not common:
            values, mask, positions = _pad(sequences, left=left)
            state = self._run(values, mask, positions, _pad_audio(audio, left=left), use_cache=left)
            return state, mask, positions, torch.zeros(len(sequences), dtype=torch.long, device=device)
        different = list(dict.fromkeys(prefixes))
        which = torch.tensor([different.index(prefix) for prefix in prefixes], device=device)
        lengths = torch.tensor([len(prefix) for prefix in prefixes], device=device)
        with torch.no_grad():
            ones = torch.ones(len(different), common, dtype=torch.long, device=device)
            state = self._run(sequences[0][None, :common], ones[:1], ones[:1].cumsum(1) - 1, use_cache=True)
            state.past_key_values.batch_repeat_interleave(len(different))
            heads = [sequences[prefixes.index(prefix)][common : len(prefix)] for prefix in different]
            opening = ones
            if max(map(len, heads)):
                values, mask, positions = _pad(heads, left=False)
                opening, cache = torch.cat([ones, mask], dim=1), state.past_key_values
                state = self._run(values, opening, positions + common, past_key_values=cache, use_cache=True)
            cache = state.past_key_values
            cache.batch_select_indices(which)
        values, mask, positions = _pad([row[n:] for row, n in zip(sequences, lengths, strict=True)], left=left)
        mask, positions = torch.cat([opening[which], mask], dim=1), positions + lengths[:, None]
        heard = _pad_audio([row[len(prefix) :] for row, prefix in zip(audio, prefixes, strict=False)], left=left)
        state = self._run(values, mask, positions, heard, past_key_values=cache, use_cache=True)
        return state, mask, positions, lengths

    def _run(
        self, embeddings: Tensor, mask: Tensor, positions: Tensor, audio: Tensor | None = None, **cache: Any
    ) -> Any:
        """Run (B, N, D) after what the cache holds; `audio` (B, N) is for those who tell speech from text."""
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


def _common(prefixes: Seq[tuple[int, ...]]) -> int:
    """Return how many tokens all prefixes begin with."""
    if not prefixes:
        return 0
    low, high = min(prefixes), max(prefixes)  # of sorted prefixes, these two differ first
    same = (a == b for a, b in zip(low, high, strict=False))
    return sum(takewhile(bool, same))


def _pad(sequences: Seq[Tensor], *, left: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Pad rows (n_i, D) to (B, N, D), with mask (B, N) and the positions (B, N) each row has alone."""
    side = "left" if left else "right"
    values = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_side=side)
    ones = [torch.ones(len(row), dtype=torch.long, device=values.device) for row in sequences]
    mask = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side=side)
    return values, mask, (mask.cumsum(1) - 1).clamp(min=0)


def _pad_audio(audio: Seq[Tensor], *, left: bool) -> Tensor | None:
    """Pad masks (n_i,) to (B, N) as `_pad` pads their rows; None where there are none."""
    side = "left" if left else "right"
    return torch.nn.utils.rnn.pad_sequence(list(audio), batch_first=True, padding_side=side) if audio else None
