"""Prompts whose keys and values are kept over steps: the same scores and gradients, and bounded memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.decoders.lora import LoRADecoder
from toolkit.decoders.prefixes import KeptPrefixes
from toolkit.errors import ConfigError
from toolkit.testing.decoder_laws import check_decoder

STEPS: list[list[tuple[int, ...]]] = [
    [(2, 3, 4, 5, 6), (2, 3, 9), (2, 3, 4, 5, 6), (2, 3)],
    [(2, 3, 9), (2, 3, 7, 7)],
    [(2, 3), (2, 3), (2, 3)],
    [(2, 3, 4, 5, 6), (2, 8), (2, 3, 9)],
]


def trained_on(decoder: CausalLMDecoder, prefixes: list[tuple[int, ...]], seed: int) -> tuple[Tensor, list[Tensor]]:
    """Return scores behind speech, and the gradient that comes back to it."""
    generator = torch.Generator().manual_seed(seed)
    speech = [torch.randn(3 + i, decoder.embedding_dim, generator=generator).requires_grad_() for i in range(4)]
    rows = [torch.cat([decoder.embed(torch.tensor(p)), s]) for p, s in zip(prefixes, speech, strict=False)]
    outputs = decoder.outputs(rows, [torch.arange(len(row) - 2, len(row)) for row in rows], prefixes)
    outputs.logits.log_softmax(-1)[:, 5].sum().backward()
    return outputs.logits.detach(), [s.grad for s in speech[: len(prefixes)] if s.grad is not None]


@pytest.mark.parametrize("most", [1, 3000, 10**7])
def test_kept_prefixes_change_no_score_and_no_gradient(most: int, tiny_llm: Path) -> None:
    plain, keeping = (CausalLMDecoder(model=str(tiny_llm), keep_prefixes=size) for size in (0, 1))
    keeping.kept.most = most
    for step, prefixes in enumerate(2 * STEPS):
        (scores, slopes), (kept, back) = (trained_on(decoder, prefixes, step) for decoder in (plain, keeping))
        torch.testing.assert_close(kept, scores, rtol=1e-5, atol=1e-5)
        assert len(slopes) == len(back) == len(prefixes)
        for ours, theirs in zip(back, slopes, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
        assert keeping.kept.nbytes <= most
    held = {1: 0, 3000: 3, 10**7: 5}  # two layers of two heads of eight values, twice, in fp32: 256 bytes a token
    assert len(keeping.kept) == held[most]
    assert not len(plain.kept)


def test_a_prompt_is_computed_once_and_again_for_other_weights(tiny_llm: Path) -> None:
    decoder, plain = (CausalLMDecoder(model=str(tiny_llm), keep_prefixes=size) for size in (1, 0))
    asked: list[int] = []

    def run(prefixes: Sequence[tuple[int, ...]]) -> Any:
        asked.append(len(prefixes))
        return decoder._prefilled(prefixes)

    for _ in range(3):
        assert decoder.kept.open(decoder.lm, STEPS[0], run) is not None
    assert asked == [3]
    for model in (decoder, plain):
        model.lm.load_state_dict({name: 0.9 * tensor for name, tensor in model.lm.state_dict().items()})
    torch.testing.assert_close(trained_on(decoder, STEPS[0], 0)[0], trained_on(plain, STEPS[0], 0)[0])


def test_nothing_is_kept_where_it_would_be_wrong(tiny_llm: Path) -> None:
    decoder = LoRADecoder(model=str(tiny_llm), audio_only=True)
    frozen = CausalLMDecoder(model=str(tiny_llm))
    assert KeptPrefixes(10**6).open(frozen.lm, STEPS[0], frozen._prefilled) is not None
    assert KeptPrefixes(10**6).open(decoder.lm, STEPS[0], decoder._prefilled) is None
    # Frozen, LoRA still is two models: itself and the text LLM inside.
    with torch.no_grad():
        for name in decoder.trained():
            decoder.get_parameter(name).requires_grad_(False).copy_(torch.randn(decoder.get_parameter(name).shape))
        rows = [
            torch.cat([decoder.embed(torch.tensor(head)), torch.ones(3, decoder.embedding_dim)]) for head in STEPS[0]
        ]
        with decoder.as_text_llm():
            text = decoder.outputs(rows, [torch.tensor([len(row) - 1]) for row in rows], STEPS[0]).logits
        asked = [torch.tensor([len(row) - 1]) for row in rows], STEPS[0], [torch.ones(len(row)) > 0 for row in rows]
        heard, again = (decoder.outputs(rows, *asked).logits for _ in range(2))
    assert torch.equal(heard, again)
    assert not torch.allclose(heard, text, atol=1e-3)
    assert not decoder.kept.most
    assert KeptPrefixes(0).open(frozen.lm, STEPS[0], frozen._prefilled) is None
    assert KeptPrefixes(10**6).open(frozen.lm, [], frozen._prefilled) is None
    assert KeptPrefixes(10**6).open(frozen.lm, [(2, 3), ()], frozen._prefilled) is None


def test_a_model_with_caches_of_its_own_kind_goes_on_without(tiny_llm: Path) -> None:
    class Windowed(DynamicCache):  # type: ignore[misc]
        """What another architecture may keep."""

    decoder, kept = CausalLMDecoder(model=str(tiny_llm)), KeptPrefixes(10**6)
    assert kept.open(decoder.lm, STEPS[0], lambda prefixes: Windowed()) is None
    assert kept.most == 0


def test_less_than_nothing_cannot_be_kept(tiny_llm: Path) -> None:
    with pytest.raises(ConfigError, match=r"decoder\.keep_prefixes .* 0 or more, not -1"):
        CausalLMDecoder(model=str(tiny_llm), keep_prefixes=-1)


def test_a_decoder_that_keeps_prefixes_keeps_the_law(tiny_llm: Path) -> None:
    check_decoder("causal_lm", model=str(tiny_llm), keep_prefixes=8)


@pytest.mark.parametrize("most", [0, 1])
def test_what_stands_behind_the_last_position_asked_is_not_run(most: int, tiny_llm: Path) -> None:
    decoder = CausalLMDecoder(model=str(tiny_llm), keep_prefixes=most)
    rows = [torch.randn(length, decoder.embedding_dim) for length in (9, 6)]
    asked = [torch.tensor([4, 6]), torch.tensor([4])]
    whole = decoder.outputs([rows[0][:7], rows[1][:5]], asked).logits
    before = int(decoder.rows_run), decoder.padded_run
    torch.testing.assert_close(decoder.outputs(rows, asked).logits, whole, rtol=0, atol=0)
    assert (int(decoder.rows_run) - before[0], decoder.padded_run - before[1]) == (7 + 5, 2 * 7)
