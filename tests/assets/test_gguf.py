from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from toolkit.assets.gguf import convert_smollm2

Array = NDArray[Any]

HIDDEN, HEADS, KEY_HEADS, INNER = 64, 4, 2, 96
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Array]]:
    """The folder made from a random SmolLM2 of one layer, and the weights as gguf itself unpacks them."""
    import gguf
    from gguf.quants import dequantize, quantize

    folder = tmp_path_factory.mktemp("gguf")
    random = np.random.default_rng(0)
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = [*SPECIAL, *sorted(ByteLevel.alphabet()), "ĠĠ", "ab"]
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(100_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(vocabulary) - len(SPECIAL)))
    writer.add_token_merges(["Ġ Ġ", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    key_width = HIDDEN // HEADS * KEY_HEADS
    shapes = {
        "token_embd": (len(vocabulary), HIDDEN),
        "blk.0.attn_q": (HIDDEN, HIDDEN),
        "blk.0.attn_k": (key_width, HIDDEN),
        "blk.0.attn_v": (key_width, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate": (INNER, HIDDEN),
        "blk.0.ffn_up": (INNER, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INNER),
    }
    unpacked: dict[str, Array] = {}
    for name, shape in shapes.items():
        kind = gguf.GGMLQuantizationType.Q8_0 if name == "token_embd" else gguf.GGMLQuantizationType.Q4_1
        packed = quantize(random.normal(0, 0.3, shape).astype(np.float32), kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
        unpacked[name] = dequantize(packed, kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        unpacked[name] = random.normal(1, 0.1, HIDDEN).astype(np.float32)
        writer.add_tensor(f"{name}.weight", unpacked[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "made").mkdir()
    convert_smollm2(folder / "model.gguf", folder / "made")
    return folder / "made", unpacked


def _heads_in_order(packed: Array, heads: int) -> Array:
    """Undo llama.cpp's order of the rows of a head, in which the two halves of a rotation are neighbours."""
    return packed.reshape(heads, -1, 2, HIDDEN).swapaxes(1, 2).reshape(-1, HIDDEN)


def test_weights_are_exactly_the_unpacked_ones(converted: tuple[Path, dict[str, Array]]) -> None:
    folder, unpacked = converted
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = {
        "model.embed_tokens": unpacked["token_embd"],
        "lm_head": unpacked["token_embd"],
        "model.layers.0.self_attn.q_proj": _heads_in_order(unpacked["blk.0.attn_q"], HEADS),
        "model.layers.0.self_attn.k_proj": _heads_in_order(unpacked["blk.0.attn_k"], KEY_HEADS),
        "model.layers.0.self_attn.v_proj": unpacked["blk.0.attn_v"],
        "model.layers.0.self_attn.o_proj": unpacked["blk.0.attn_output"],
        "model.layers.0.mlp.gate_proj": unpacked["blk.0.ffn_gate"],
        "model.layers.0.mlp.up_proj": unpacked["blk.0.ffn_up"],
        "model.layers.0.mlp.down_proj": unpacked["blk.0.ffn_down"],
        "model.layers.0.input_layernorm": unpacked["blk.0.attn_norm"],
        "model.layers.0.post_attention_layernorm": unpacked["blk.0.ffn_norm"],
        "model.norm": unpacked["output_norm"],
    }
    state = model.state_dict()
    assert set(state) == {f"{name}.weight" for name in expected}
    for name, weight in expected.items():
        np.testing.assert_array_equal(state[f"{name}.weight"].numpy(), weight, err_msg=name)
    assert model.config.tie_word_embeddings
    assert model.config.rope_parameters["rope_theta"] == 100_000.0
    assert getattr(model.config, "quantization_config", None) is None


def test_tokenizer_cuts_before_each_digit(converted: tuple[Path, dict[str, Array]]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted[0])
    assert tokenizer.tokenize("ab  23") == ["ab", "ĠĠ", "2", "3"]
    for text in ("ab  23 naïve — 漢字", " x\n\n y "):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.model_max_length == 128


def test_chat_template(converted: tuple[Path, dict[str, Array]]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted[0])
    chat = [{"role": "user", "content": "ab?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(ids) == "<|im_start|>user\nab?<|im_end|>\n<|im_start|>assistant\n"
    assert ids[0] == 1
    model = AutoModelForCausalLM.from_pretrained(converted[0], dtype=torch.float32).eval()
    made = model.generate(torch.tensor([ids]), max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert made.shape == (1, len(ids) + 3)
