"""How rows are run together to generate, in what cache and on what kernels, changes no answer."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.cache_utils import DynamicCache

from toolkit.decoders import causal_lm, greedy
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.decoders.packed import PackedLinears
from toolkit.decoders.prefixes import KeptPrefixes
from toolkit.decoders.row_cache import ROOM, is_roomy, joined, roomy
from toolkit.types import GenerationOptions

LENGTH = 12
PREFIXES = [(2, 3, 4, 5, 6, 7, 8, 9), (2, 3, 9), (2, 3), (2, 3, 5, 6)]


@pytest.fixture(scope="module")
def decoder(tiny_llm: Path) -> CausalLMDecoder:
    """A decoder that ends some rows early: token 7 is taken for the end, and is made likelier than it was."""
    decoder = CausalLMDecoder(model=str(tiny_llm))
    with torch.no_grad():
        decoder.lm.get_input_embeddings().weight[7] *= 3
    return decoder


@pytest.fixture(scope="module")
def rows(decoder: CausalLMDecoder) -> tuple[list[Tensor], list[tuple[int, ...]]]:
    """Forty rows of different lengths behind four prefixes, of which one is all that the others begin with."""
    generator = torch.Generator().manual_seed(3)
    prefixes = [PREFIXES[i % len(PREFIXES)] for i in range(40)]
    rests = [torch.randint(10, decoder.vocabulary_size, (1 + i % 11,), generator=generator) for i in range(40)]
    ids = [torch.cat([torch.tensor(prefix), rest]) for prefix, rest in zip(prefixes, rests, strict=True)]
    return [decoder.embed(row) for row in ids], prefixes


@pytest.mark.parametrize("together", [0, 1, 8, 60, 512])
@pytest.mark.parametrize("lingering", [1, 4, 10_000])
def test_rows_that_begin_and_end_in_groups_say_what_each_says_alone(
    together: int,
    lingering: int,
    decoder: CausalLMDecoder,
    rows: tuple[list[Tensor], list[tuple[int, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embeddings, prefixes = rows
    options = GenerationOptions(LENGTH, (7,))
    alone = [decoder.generate([row], options)[0] for row in embeddings]
    assert len({len(answer) for answer in alone}) > 2  # some end early, at different steps
    monkeypatch.setitem(causal_lm.TOGETHER, "cpu", together)
    monkeypatch.setattr(greedy, "LINGERING", lingering)
    assert decoder.generate(embeddings, options, prefixes) == alone
    assert decoder.generate(embeddings, options) == alone


@pytest.mark.parametrize("at_once", [1, 3, 16, 39])
@pytest.mark.parametrize("kept", [0, 256 * 10**6])
def test_rows_that_take_the_places_of_ended_ones_say_what_each_says_alone(
    at_once: int,
    kept: int,
    decoder: CausalLMDecoder,
    rows: tuple[list[Tensor], list[tuple[int, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embeddings, prefixes = rows
    monkeypatch.setattr(decoder, "kept", KeptPrefixes(kept))
    alone = [decoder.generate([row], GenerationOptions(LENGTH, (7,)))[0] for row in embeddings]
    options = GenerationOptions(LENGTH, (7,), at_once)
    assert decoder.generate(embeddings, options, prefixes) == alone
    assert decoder.generate(embeddings, options) == alone
    short_first = sorted(range(40), key=lambda i: len(embeddings[i]))  # later ones are longer than what is held
    answers = decoder.generate([embeddings[i] for i in short_first], options, [prefixes[i] for i in short_first])
    assert answers == [alone[i] for i in short_first]


def test_places_of_ended_rows_are_filled_before_the_others_end(
    decoder: CausalLMDecoder, rows: tuple[list[Tensor], list[tuple[int, ...]]]
) -> None:
    embeddings, prefixes = rows
    steps = 0

    def count(module: nn.Module, args: tuple[()], given: dict[str, Tensor]) -> None:
        nonlocal steps
        steps += given["inputs_embeds"].shape[1] == 1

    def run(groups: list[range]) -> tuple[int, list[list[int]]]:
        nonlocal steps
        steps, answers = 0, []
        for group in groups:
            given = [embeddings[i] for i in group], GenerationOptions(LENGTH, (7,), 8), [prefixes[i] for i in group]
            answers += decoder.generate(*given)
        return steps, answers

    hook = decoder.lm.base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        batches, answers = run([range(start, start + 8) for start in range(0, 40, 8)])
        refilled, same = run([range(40)])
    finally:
        hook.remove()
    assert answers == same
    # A batch is as long as its longest answer; refilled, the steps are about the tokens divided by the rows.
    assert refilled < 0.8 * batches
    assert refilled <= sum(len(answer) + 1 for answer in answers) / 8 + LENGTH


@pytest.mark.parametrize("stop", range(4))
def test_a_row_that_has_ended_is_not_run_past_the_last_position(stop: int, tmp_path: Path) -> None:
    """Where positions are a table: while others end and are followed by new ones, it may stay for long."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=4, n_positions=24, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1,
        initializer_range=0.5,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    decoder = CausalLMDecoder(model=str(tmp_path))
    rows = [decoder.embed(torch.randint(4, (12,))) for _ in range(200)]
    together = decoder.generate(rows, GenerationOptions(12, (stop,), rows=32))
    assert together == [decoder.generate([row], GenerationOptions(12, (stop,)))[0] for row in rows]


@pytest.mark.parametrize("most", [1, 7, 30, 1000])
def test_groups_hold_every_row_once_and_no_more_positions_than_allowed(most: int) -> None:
    lengths = [5, 9, 9, 1, 3, 30, 2, 2, 8]
    groups = causal_lm._alike(lengths, most)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[row] for row in group)
        assert len(group) == 1 or longest * len(group) <= most


def step(rows: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, rows, 2, length, 4, generator=generator)
    return keys, values


def test_a_roomy_cache_holds_what_the_plain_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = DynamicCache()
    plain.update(*step(4, 5, 0), 0)
    cache = roomy(deepcopy(plain))
    assert is_roomy(cache)
    assert not is_roomy(plain)
    for i in range(2 * ROOM):
        if i in (3, 4, ROOM):
            for one in (plain, cache):
                one.batch_select_indices(torch.arange(len(one.layers[0].keys) - 1))
        new = step(len(plain.layers[0].keys), 1 + (i == 7), i + 1)
        for ours, theirs in zip(cache.update(*new, 0), plain.update(*new, 0), strict=True):
            assert torch.equal(ours, theirs)
    assert cache.get_seq_length() == plain.get_seq_length()


def test_joined_rows_stand_at_the_end_and_can_go_on() -> None:
    caches = []
    for i, length in enumerate((3, 6, 1)):
        cache = DynamicCache()
        cache.update(*step(2, length, i), 0)
        caches.append(roomy(cache))
    parts = [(cache.layers[0].keys.clone(), cache.get_seq_length()) for cache in caches]
    whole = joined(caches)
    new = step(6, 1, 9)
    keys, _ = whole.update(*new, 0)
    assert keys.shape == (6, 2, 7, 4)
    for i, (part, length) in enumerate(parts):
        assert torch.equal(keys[2 * i : 2 * i + 2, :, 6 - length : 6], part)
        assert not keys[2 * i : 2 * i + 2, :, : 6 - length].any()
    assert torch.equal(keys[:, :, 6:], new[0])


@pytest.fixture
def model() -> Iterator[nn.Sequential]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 8, bias=False)).requires_grad_(False)
    yield model
    assert all("forward" not in vars(module) for module in model)  # nothing of it stays


def test_packed_layers_give_the_same_numbers_and_see_new_weights(model: nn.Sequential) -> None:
    packed, x = PackedLinears(model), torch.randn(3, 5, 24)
    for _ in range(2):
        with torch.no_grad():
            plain = model(x)
            with packed():
                assert "forward" in vars(model[0])
                torch.testing.assert_close(model(x), plain, atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(model(x[:, -1]), plain[:, -1], atol=1e-5, rtol=1e-5)
            with deepcopy(packed)():
                pass
        model.load_state_dict({name: 1.0 - tensor for name, tensor in model.state_dict().items()})
    with pytest.raises(RuntimeError, match="in the middle"), packed():
        raise RuntimeError("in the middle")


@pytest.mark.parametrize("case", ["learns", "bf16", "large"])
def test_layers_that_cannot_be_packed_are_left_alone(
    case: str, model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "large":
        monkeypatch.setattr("toolkit.decoders.packed.MOST", 100)
    model.requires_grad_(case == "learns").to(torch.bfloat16 if case == "bf16" else torch.float32)
    with PackedLinears(model)():
        assert all("forward" not in vars(module) for module in model)
