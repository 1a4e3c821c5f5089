import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from toolkit.assets.ctranslate2 import convert_whisper, read_model
from toolkit.errors import AssetError

MULTILINGUAL = 51_865


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("float32", 1e-6)])
def test_same_outputs_as_the_original(
    make_whisper: Callable[[str, int], Any], tmp_path: Path, dtype: str, tolerance: float
) -> None:
    whisper = make_whisper(dtype, 300)
    convert_whisper(whisper.files, tmp_path)
    converted, report = WhisperForConditionalGeneration.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert converted.config.dtype == torch.float32
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype
    inputs = {
        "input_features": torch.randn(2, 8, 100, generator=torch.Generator().manual_seed(1)),
        "decoder_input_ids": torch.tensor([[257, 265, 5], [257, 265, 9]]),
    }
    with torch.no_grad():
        ours, theirs = converted.eval()(**inputs), whisper.model(**inputs)
    scale = float(theirs.encoder_last_hidden_state.abs().max())
    assert scale > 0.5  # else a tolerance would say nothing
    torch.testing.assert_close(
        ours.encoder_last_hidden_state,
        theirs.encoder_last_hidden_state,
        rtol=tolerance,
        atol=tolerance * scale,
    )
    spread = float(theirs.logits.abs().max())
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=tolerance, atol=tolerance * spread)


def test_weights_keep_their_bits(tiny_whisper: Any, tmp_path: Path) -> None:
    convert_whisper(tiny_whisper.files, tmp_path)
    converted = WhisperForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float16)
    for name, tensor in tiny_whisper.model.state_dict().items():
        assert torch.equal(converted.state_dict()[name], tensor.half()), name


def test_folder_transcribes_in_english_unasked(make_whisper: Callable[[str, int], Any], tmp_path: Path) -> None:
    for name, vocabulary, prompt in (
        ("english", 300, "<|startoftranscript|><|notimestamps|>"),
        ("multilingual", MULTILINGUAL, "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        convert_whisper(make_whisper("float16", vocabulary).files, folder)
        model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        made = model.generate(torch.randn(1, 8, 100), return_dict_in_generate=True)["sequences"][0]
        assert tokenizer.decode(made).startswith(prompt)
        assert not {1, 2} & set(made.tolist()), "suppressed"


def test_language_can_be_chosen(make_whisper: Callable[[str, int], Any], tmp_path: Path) -> None:
    convert_whisper(make_whisper("float16", MULTILINGUAL).files, tmp_path)
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    made = model.generate(torch.randn(1, 8, 100), language="de", task="translate", return_dict_in_generate=True)[
        "sequences"
    ]
    assert tokenizer.decode(made[0]).startswith("<|startoftranscript|><|de|><|translate|><|notimestamps|>")


def test_tokenizer_and_mel_filters_load(tiny_whisper: Any, tmp_path: Path) -> None:
    convert_whisper(tiny_whisper.files, tmp_path)
    processor = WhisperProcessor.from_pretrained(tmp_path)
    tokenizer = processor.tokenizer
    ids = tokenizer(" Größe 2!", add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == " Größe 2!"
    assert (tokenizer.eos_token, tokenizer.pad_token_id) == ("<|endoftext|>", 256)
    first_time = tokenizer.convert_tokens_to_ids("<|notimestamps|>") + 1
    assert tokenizer.decode([first_time + 50], decode_with_timestamps=True) == "<|1.00|>"
    mel = WhisperFeatureExtractor.from_pretrained(tmp_path)(np.zeros(1600, np.float32), sampling_rate=16_000)
    assert mel.input_features[0].shape == (8, 3000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder/conv2/bias"), "has no 'encoder/conv2/bias'"),
        (lambda t: t.pop("decoder/num_heads"), "has no 'decoder/num_heads'"),
        (
            lambda t: t.update({"decoder/activation": np.array(0, np.int8)}),
            "'decoder/activation' is 0; Whisper has 3",
        ),
        (lambda t: t.update({"encoder/extra": np.zeros(2, np.float32)}), "does not have: encoder/extra"),
        (lambda t: t.update({"encoder/conv1/bias": np.zeros(16, np.int8)}), r"quantised \(int8\)"),
        (
            lambda t: t.update({"encoder/layer_0/self_attention/linear_0/bias": np.ones(48, np.float16)}),
            "bias for the keys",
        ),
    ],
)
def test_refuses_what_is_not_whisper(
    tiny_whisper: Any, write_model: Any, tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    tensors = read_model(tiny_whisper.files["model.bin"]).tensors
    change(tensors)
    with pytest.raises(AssetError, match=message):
        convert_whisper({**tiny_whisper.files, "model.bin": write_model(tensors, {})}, tmp_path)


def test_refuses_another_kind_of_model(tiny_whisper: Any, write_model: Any, tmp_path: Path) -> None:
    files = {**tiny_whisper.files, "model.bin": write_model({}, {}, kind="TransformerSpec")}
    with pytest.raises(AssetError, match="'TransformerSpec', not a Whisper"):
        convert_whisper(files, tmp_path)


def test_refuses_another_tokenizer(tiny_whisper: Any, tmp_path: Path) -> None:
    files = {**tiny_whisper.files, "tokenizer.json": b'{"added_tokens": []}'}
    with pytest.raises(AssetError, match=r"no '<\|endoftext\|>': it is not Whisper's"):
        convert_whisper(files, tmp_path)
