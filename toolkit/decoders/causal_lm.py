"""Any causal language model of Hugging Face, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from copy import deepcopy
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from toolkit.assets.pretrained import pretrained
from toolkit.decoders.attention import attend_short_rows
from toolkit.decoders.compiled import CompiledPieces
from toolkit.decoders.greedy import answer_greedily
from toolkit.decoders.joined import JoinedAttention
from toolkit.decoders.last_layer import last_layer_at
from toolkit.decoders.norms import quicken_norms
from toolkit.decoders.packed import PackedLinears
from toolkit.decoders.packing import can_pack, pad, pad_audio, run_packed
from toolkit.decoders.prefixes import KeptPrefixes, common
from toolkit.decoders.row_cache import Begun, is_roomy, roomy
from toolkit.errors import ConfigError
from toolkit.interfaces import DECODERS, Decoder
from toolkit.types import GenerationOptions, Outputs

TOGETHER = {"cpu": 512}
"""of a kind of device, how many positions are run together when rows are begun: more no longer fit a CPU's caches"""
MANY, FEWER = 2**26, 2**24
"""scores over the vocabulary: where there are more than the first, so many are made at a time"""
CPU_SCORES = 2**23
"""both of a CPU, which makes as many as fit its caches no slower"""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@DECODERS.register("causal_lm")
class CausalLMDecoder(Decoder):
    """Runs `model`: a folder, a hub id (`meta-llama/Llama-3.1-8B-Instruct`) or `asset:NAME`.

    `dtype` is of the frozen weights: `fp32`, `bf16` or `fp16`. `loading` is how else transformers is to load them.
    `keep_prefixes` megabytes keep prompts' keys and values over steps, which may differ in last digits; 0 keeps none.
    """

    opens_once = True

    def __init__(
        self, loading: Mapping[str, Any] = MappingProxyType({}), *, model: str, dtype: str = "fp32",
        keep_prefixes: int = 256,
    ) -> None:  # fmt: skip
        super().__init__()
        from transformers import AutoModelForCausalLM

        if dtype not in DTYPES:
            raise ConfigError(f"decoder.dtype is one of {', '.join(DTYPES)}, not '{dtype}'")
        self.lm, _ = pretrained(AutoModelForCausalLM, model, dtype=DTYPES[dtype], **loading)
        self.lm.requires_grad_(False)
        self.lm.eval()
        attend_short_rows(self.lm)
        quicken_norms(self.lm)
        self._packed = PackedLinears(self.lm)
        self._joined = JoinedAttention(self.lm)
        self._compiled: CompiledPieces | None = None
        # Who is one LLM with its training and another without, as LoRA is, has no keys that are good for both.
        one = type(self).as_text_llm is Decoder.as_text_llm
        self.kept = KeptPrefixes(keep_prefixes * 10**6 if one else 0)
        self.embedding_dim = self.lm.get_input_embeddings().embedding_dim
        self.vocabulary_size = self.lm.get_input_embeddings().num_embeddings

    def train(self, mode: bool = True) -> CausalLMDecoder:
        """Stay in evaluation mode: a frozen model has no dropout to switch on."""
        return super().train(False)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Look up input embeddings: (n,) -> (n, D)."""
        return self.lm.get_input_embeddings()(token_ids)  # type: ignore[no-any-return]

    def pack(self) -> bool:
        """Run several short rows in the place of a long one from now on, to score them."""
        self.packing = can_pack(self.lm.config.get_text_config())
        return self.packing

    def compile_pieces(self) -> bool:
        """Compile norms and MLPs, when they are first needed."""
        self._compiled = self._compiled or CompiledPieces(self.lm.base_model)
        return self._compiled.count > 0

    @property
    def compile_seconds(self) -> float:
        """Return how long compiling took so far."""
        return self._compiled.seconds if self._compiled else 0.0

    def outputs(
        self,
        sequences: Seq[Tensor],
        positions: Seq[Tensor],
        prefixes: Seq[tuple[int, ...]] = (),
        audio: Seq[Tensor] = (),
    ) -> Outputs:
        """Run rows padded on the right, up to the last of the M positions asked, and score only these."""
        asked = [p.tolist() for p in positions]
        ends = [max(p) + 1 if p else len(row) for p, row in zip(asked, sequences, strict=True)]
        sequences = [row[:end] for row, end in zip(sequences, ends, strict=True)]
        audio = [row[:end] for row, end in zip(audio, ends, strict=False)]
        if any(p and min(p) < len(prefix) for p, prefix in zip(asked, prefixes, strict=False)):
            prefixes = ()
        with self._joined():  # the cache is not gone on from
            chosen = self._hidden(sequences, positions, prefixes, audio)
        many, fewer = (CPU_SCORES, CPU_SCORES) if chosen.device.type == "cpu" else (MANY, FEWER)
        if len(chosen) * self.vocabulary_size > many and not self.lm.get_output_embeddings().weight.requires_grad:
            return Outputs(self._score, chosen, max(1, fewer // self.vocabulary_size))
        return Outputs(self._score(chosen), chosen)

    @torch.no_grad()
    def generate(
        self,
        sequences: Seq[Tensor],
        options: GenerationOptions,
        prefixes: Seq[tuple[int, ...]] = (),
        audio: Seq[Tensor] = (),
    ) -> list[list[int]]:
        """Continue rows padded on the left, greedily; where one has ended, one that waits takes its place."""

        def begin(which: Seq[int]) -> Begun:
            opening, heard = [prefixes[i] for i in which if prefixes], [audio[i] for i in which if audio]
            return self._begin([sequences[i] for i in which], opening, heard)

        with self._packed():
            return answer_greedily(len(sequences), options, begin, self._go_on, self._score)

    def _begin(self, sequences: Seq[Tensor], prefixes: Seq[tuple[int, ...]], audio: Seq[Tensor]) -> Begun:
        """Run whole rows to continue them: what several open with once, then the rest."""
        different = list(dict.fromkeys(prefixes))
        # What one row alone opens with, such as what was said before, may never come again.
        again = len(different) < len(sequences) or self.kept.holds(different)
        kept = self.kept.open(self.lm, different, self._prefilled) if again else None
        shared = common(prefixes) if len(sequences) > 1 else 0
        if not kept and not shared:
            values, mask, positions = pad(sequences, left=True)
            state = self._run(values, mask, positions, pad_audio(audio, left=True), use_cache=True)
            return Begun.of(state, mask, positions, list(range(len(sequences))))
        cache, mask = kept or self._open(sequences, prefixes, different, shared)
        rests = [row[len(prefix) :] for row, prefix in zip(sequences, prefixes, strict=True)]
        heard = [row[len(prefix) :] for row, prefix in zip(audio, prefixes, strict=False)]
        after = [different.index(prefix) for prefix in prefixes]
        return self._after(roomy(cache), mask, rests, after, list(map(len, prefixes)), heard)

    def _after(
        self, cache: Any, before: Tensor, parts: Seq[Tensor], after: Seq[int], skipped: Seq[int], audio: Seq[Tensor]
    ) -> Begun:
        """Run the rest of rows, those of similar length together, so that little of it is padding.

        Args:
            cache: what stands before them.
            before: its mask.
            parts: of each row, its next embeddings (n_i, D).
            after: of each row, which one of the cache it goes on from.
            skipped: of each row, how many positions stand before the part.
            audio: of each part, where it is speech.
        """
        device, lengths = parts[0].device, [len(part) for part in parts]
        most = TOGETHER.get(device.type, 0) if is_roomy(cache) else 0
        groups = _alike(lengths, most) if most else [list(range(len(parts)))]
        found = []
        for group in groups:
            own = cache if len(groups) == 1 else deepcopy(cache)
            which = torch.tensor([after[i] for i in group], device=device)
            own.batch_select_indices(which)
            values, mask, positions = pad([parts[i] for i in group], left=True)
            mask = torch.cat([before[which], mask], dim=1)
            positions = positions + torch.tensor([skipped[i] for i in group], device=device)[:, None]
            heard = pad_audio([audio[i] for i in group if audio], left=True)
            state = self._run(values, mask, positions, heard, past_key_values=own, use_cache=True)
            found.append(Begun.of(state, mask, positions, group))
        return Begun.joined(found)

    def _go_on(self, begun: Begun, tokens: Tensor) -> None:
        """Run one token (B,) more of each row."""
        begun.mask = torch.cat([begun.mask, begun.mask.new_ones(len(begun.mask), 1)], dim=1)
        begun.position = begun.position + 1
        values, cache = self.embed(tokens)[:, None], begun.cache
        state = self._run(values, begun.mask, begun.position, past_key_values=cache, use_cache=True)
        begun.last = state.last_hidden_state[:, -1]

    def _hidden(
        self, sequences: Seq[Tensor], asked: Seq[Tensor], prefixes: Seq[tuple[int, ...]], audio: Seq[Tensor]
    ) -> Tensor:
        """Run whole rows to score them, first what they open with, then the rest; returns (M, D) where it is asked.

        A prefix is text, so no adapter is behind it and it needs no gradient; who trains on text too gives none.
        """
        device = sequences[0].device
        different = list(dict.fromkeys(prefixes))
        kept = self.kept.open(self.lm, different, self._prefilled)
        shared = common(prefixes) if len(sequences) > 1 else 0
        rows, positions = torch.cat([torch.full_like(p, i) for i, p in enumerate(asked)]), torch.cat(list(asked))
        if not kept and not shared:
            if self.packing:
                nothing = torch.zeros(len(sequences), dtype=torch.long, device=device)
                return run_packed(self._run, sequences, nothing, audio)[rows, positions]
            return self._run_at(rows, positions, *pad(sequences, left=False), pad_audio(audio, left=False))
        which = torch.tensor([different.index(prefix) for prefix in prefixes], device=device)
        lengths = torch.tensor([len(prefix) for prefix in prefixes], device=device)
        cache, opening = kept or self._open(sequences, prefixes, different, shared)
        rests = [row[n:] for row, n in zip(sequences, lengths, strict=True)]
        heard = [row[len(prefix) :] for row, prefix in zip(audio, prefixes, strict=False)]
        positions = positions - lengths[rows]
        if self.packing:
            return run_packed(self._run, rests, lengths, heard, which, opening, cache)[rows, positions]
        cache.batch_select_indices(which)
        values, mask, places = pad(rests, left=False)
        mask, places = torch.cat([opening[which], mask], dim=1), places + lengths[:, None]
        speech = pad_audio(heard, left=False)
        return self._run_at(rows, positions, values, mask, places, speech, past_key_values=cache, use_cache=True)

    def _run_at(self, rows: Tensor, positions: Tensor, *batch: Any, **cache: Any) -> Tensor:
        """Run a batch as `_run` does, for the hidden states (M, D) of some positions (M,) of rows (M,)."""
        with last_layer_at(self.lm.base_model, rows, positions) as alone:
            hidden: Tensor = self._run(*batch, **cache).last_hidden_state
        return hidden[0] if alone else hidden[rows, positions]

    @torch.no_grad()
    def _open(
        self, sequences: Seq[Tensor], prefixes: Seq[tuple[int, ...]], different: Seq[tuple[int, ...]], shared: int
    ) -> tuple[Any, Tensor]:
        """Run what all rows open with once, then each different prefix; returns its cache and mask."""
        device = sequences[0].device
        opening = torch.ones(len(different), shared, dtype=torch.long, device=device)
        state = self._run(sequences[0][None, :shared], opening[:1], opening[:1].cumsum(1) - 1, use_cache=True)
        state.past_key_values.batch_repeat_interleave(len(different))
        heads = [sequences[prefixes.index(prefix)][shared : len(prefix)] for prefix in different]
        if max(map(len, heads)):
            values, mask, positions = pad(heads, left=False)
            opening, cache = torch.cat([opening, mask], dim=1), state.past_key_values
            state = self._run(values, opening, positions + shared, past_key_values=cache, use_cache=True)
        return state.past_key_values, opening

    @torch.no_grad()
    def _prefilled(self, prefixes: Seq[tuple[int, ...]]) -> Any:
        """Run prefixes padded on the right; returns the model's cache."""
        rows = [self.embed(torch.tensor(prefix, device=self.lm.device)) for prefix in prefixes]
        return self._run(*pad(rows, left=False), use_cache=True).past_key_values

    def _run(
        self, embeddings: Tensor, mask: Tensor, positions: Tensor, audio: Tensor | None = None, **cache: Any
    ) -> Any:
        """Run (B, N, D) after what the cache holds; `audio` (B, N) is for those who tell speech from text."""
        self.padded_run += len(embeddings) * embeddings.shape[1]
        own = mask[..., -embeddings.shape[1] :]
        real = own if own.dim() == 2 else own[:, 0].diagonal(dim1=1, dim2=2) == 0
        self.rows_run = self.rows_run + real.sum()  # not looked at: that would be waiting for it
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


def _alike(lengths: Seq[int], most: int) -> list[list[int]]:
    """Divide rows into groups of similar lengths, long ones first, each of at most `most` positions with its padding.

    A group is also closed where a row would be padded by more than a third, unless it is still a small one.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        longest, held = (lengths[groups[-1][0]], len(groups[-1])) if groups else (0, 0)
        full = (held + 1) * longest > most or (3 * lengths[row] < 2 * longest and held * longest >= most // 4)
        if groups and not full:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
