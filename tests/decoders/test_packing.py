"""Several short rows in the place of a long one: the same scores and gradients, and fewer positions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, MistralConfig, Qwen2Config

from toolkit.config import Config
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.decoders.lora import LoRADecoder
from toolkit.decoders.packing import Packing, can_pack
from toolkit.errors import ConfigError
from toolkit.interfaces import Decoder
from toolkit.stages import train

ConfigOf = Callable[..., Config]
LENGTHS = [9, 4, 3, 5, 2, 8, 1]
HEADS: dict[str, list[tuple[int, ...]]] = {
    "alike": [(2, 3, 4, 5)],
    "different": [(2, 3, 4, 5), (2, 3, 9)],
    "one in another": [(2, 3), (2, 3, 4)],
}


def gradients(
    decoder: CausalLMDecoder, heads: list[tuple[int, ...]], *, prefixed: bool
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return the scores of rows of speech and text, and the gradients of speech and of what is trained."""
    generator = torch.Generator().manual_seed(0)
    rows, positions, audio, prefixes, speech = [], [], [], [], []
    for i, length in enumerate(LENGTHS):
        prefix = heads[i % len(heads)]
        speech.append(torch.randn(length, decoder.embedding_dim, generator=generator).requires_grad_())
        answer = torch.randint(2, decoder.vocabulary_size, (1 + i % 3,), generator=generator)
        rows.append(torch.cat([decoder.embed(torch.tensor(prefix)), speech[-1], decoder.embed(answer)]))
        positions.append(torch.arange(len(prefix) + length - 1, len(rows[-1])))
        audio.append(torch.tensor([False] * len(prefix) + [True] * length + [False] * len(answer)))
        prefixes.append(prefix)
    decoder.zero_grad()
    outputs = decoder.outputs(rows, positions, prefixes if prefixed else (), audio)
    targets = torch.arange(len(outputs.logits)) % decoder.vocabulary_size
    torch.nn.functional.cross_entropy(outputs.logits, targets, reduction="sum").backward()
    found = {f"speech {i}": row.grad for i, row in enumerate(speech) if row.grad is not None}
    found |= {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}
    return [outputs.logits.detach(), outputs.hidden.detach()], {k: v.clone() for k, v in found.items()}


@pytest.mark.parametrize("attention", ["sdpa", "eager", "short_rows"])
@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("kind", ["causal_lm", "lora", "audio_only"])
def test_packed_rows_give_what_they_give_alone(
    kind: str, heads: str, prefixed: bool, attention: str, tiny_llm: Path
) -> None:
    torch.manual_seed(0)
    decoder: CausalLMDecoder
    if kind == "causal_lm":
        decoder = CausalLMDecoder(model=str(tiny_llm), keep_prefixes=0)
    else:
        decoder = LoRADecoder(model=str(tiny_llm), dropout=0.0, audio_only=kind == "audio_only")
        with torch.no_grad():
            for name, parameter in decoder.named_parameters():
                if name in decoder.trained():
                    parameter.copy_(0.1 * torch.randn(parameter.shape))
    decoder.lm.set_attn_implementation(attention)
    plain, plain_gradients = gradients(decoder, HEADS[heads], prefixed=prefixed)
    before = int(decoder.rows_run), decoder.padded_run
    assert decoder.pack()
    packed, packed_gradients = gradients(decoder, HEADS[heads], prefixed=prefixed)
    for one, other in zip(plain, packed, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert plain_gradients.keys() == packed_gradients.keys()
    assert len(plain_gradients) > len(LENGTHS) or kind == "causal_lm"
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=1e-5)
    assert int(decoder.rows_run) == 2 * before[0]
    assert decoder.padded_run - before[1] < before[1]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), min_size=1, max_size=20))
def test_every_row_is_packed_once_and_none_is_longer_than_the_longest(rows: list[tuple[int, int]]) -> None:
    lengths, after = [length for length, _ in rows], [head for _, head in rows]
    packing = Packing.of(lengths, after)
    assert sorted(row for held in packing.bins for row in held) == list(range(len(rows)))
    for held in packing.bins:
        assert sum(lengths[row] for row in held) <= max(lengths)
        assert len({after[row] for row in held}) == 1
    values = [torch.randn(length, 3) for length in lengths]
    for row, length, value in zip(packing.split(packing.join(values)), lengths, values, strict=True):
        assert torch.equal(row[:length], value)


def test_what_sees_part_of_a_row_is_not_packed(tiny_llm: Path, tmp_path: Path) -> None:
    def known(config: object) -> bool:
        config._attn_implementation = "sdpa"  # type: ignore[attr-defined]
        return can_pack(config)

    assert known(AutoConfig.from_pretrained(tiny_llm))
    assert known(Qwen2Config(use_sliding_window=False))
    assert not known(MistralConfig(sliding_window=64))
    assert not Decoder.pack(CausalLMDecoder(model=str(tiny_llm)))


def test_training_packed_learns_the_same(config_of: ConfigOf, tmp_path: Path) -> None:
    for packing in ("false", "true"):
        train.run(config_of(tmp_path / packing, f"train.packing={packing}"))
    plain, packed = (load_file(tmp_path / name / "checkpoint/trainable.safetensors") for name in ("false", "true"))
    for name, tensor in plain.items():
        torch.testing.assert_close(tensor, packed[name], atol=1e-5, rtol=1e-4)
    padding = []
    for name in ("false", "true"):
        rows = [json.loads(line) for line in (tmp_path / name / "train_log.jsonl").read_text().splitlines()]
        padding.append(sum(row["padding"] for row in rows if "padding" in row))
    assert padding[1] <= padding[0]


def test_packing_is_refused_where_it_cannot_be(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CausalLMDecoder, "pack", Decoder.pack)
    with pytest.raises(ConfigError, match=r"say train\.packing=false"):
        train.run(config_of(tmp_path, "train.packing=true"))
