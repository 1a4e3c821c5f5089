"""The cascade's Whisper is told its language, where it knows more than one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from transformers import GenerationConfig, WhisperForConditionalGeneration

from toolkit.config import Config
from toolkit.data.cuts import read_cuts
from toolkit.errors import ConfigError
from toolkit.stages import decode
from toolkit.stages.paths import cuts_path
from toolkit.stages.recognise import language_code, recognise

LANGUAGES = {"<|en|>": 50, "<|de|>": 51, "<|fr|>": 52}
TRANSCRIBE = 60


def test_languages_go_by_code_or_name() -> None:
    assert [language_code(word) for word in ("de", "German", "ENGLISH", "")] == ["de", "de", "en", ""]
    with pytest.raises(ConfigError, match=r"decode\.language\) 'germann'. Did you mean 'german'\?"):
        language_code("germann")


@pytest.fixture(scope="module")
def multilingual(tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of three languages, whose own files say English."""
    folder = tmp_path_factory.mktemp("models") / "multilingual"
    model: Any = WhisperForConditionalGeneration.from_pretrained(tiny_whisper)
    model.save_pretrained(folder)
    generation = GenerationConfig(decoder_start_token_id=2, bos_token_id=1, eos_token_id=1, pad_token_id=1)
    generation.is_multilingual, generation.lang_to_id = True, LANGUAGES
    generation.task_to_id = {"transcribe": TRANSCRIBE, "translate": 61}
    generation.no_timestamps_token_id, generation.language, generation.task = 62, "en", "translate"
    generation.save_pretrained(folder)
    return folder


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Collect how the transcripts that Whisper goes on to write begin."""
    beginnings: list[list[int]] = []
    begin = WhisperForConditionalGeneration._retrieve_init_tokens

    def noted(self: Any, *rest: Any, **more: Any) -> Tensor:
        tokens: Tensor = begin(self, *rest, **more)
        beginnings.extend(tokens.tolist())
        return tokens

    monkeypatch.setattr(WhisperForConditionalGeneration, "_retrieve_init_tokens", noted)
    return beginnings


@pytest.fixture
def noises(config_of: Callable[..., Config], tmp_path: Path) -> tuple[list[Any], Path]:
    """Two cuts, and a folder for their transcripts."""
    config = config_of(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"settings": "x"}))
    return read_cuts(cuts_path(config, "test")), tmp_path


@pytest.mark.parametrize(("language", "token"), [("en", 50), ("german", 51)])
def test_a_multilingual_whisper_writes_down_the_language_it_is_told(
    language: str, token: int, multilingual: Path, noises: tuple[list[Any], Path], begun: list[list[int]]
) -> None:
    cuts, folder = noises
    assert set(recognise(cuts, str(multilingual), folder, language)) == {cut.id for cut in cuts}
    assert [row[:3] for row in begun] == [[2, token, TRANSCRIBE]] * len(cuts)
    begun.clear()
    recognise(cuts, str(multilingual), folder, language)
    assert begun == []  # kept
    recognise(cuts, str(multilingual), folder, "fr")
    assert {row[1] for row in begun} == {52}  # but not for another language


def test_without_a_language_it_guesses_one(
    multilingual: Path, noises: tuple[list[Any], Path], begun: list[list[int]]
) -> None:
    cuts, folder = noises
    guesses = WhisperForConditionalGeneration.detect_language
    asked = []

    def noted(self: Any, *rest: Any, **more: Any) -> Tensor:
        guess: Tensor = guesses(self, *rest, **more)
        asked.extend(guess.tolist())
        return guess

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhisperForConditionalGeneration, "detect_language", noted)
        recognise(cuts, str(multilingual), folder, "")
    assert len(asked) == len(cuts)
    assert [row[1:3] for row in begun] == [[guess, TRANSCRIBE] for guess in asked]


def test_a_whisper_of_english_alone_is_told_nothing(
    tiny_whisper: Path, noises: tuple[list[Any], Path], begun: list[list[int]]
) -> None:
    cuts, folder = noises
    recognise(cuts, str(tiny_whisper), folder, "en")
    assert begun == [[2]] * len(cuts)


def test_a_language_that_the_model_lacks_is_refused(multilingual: Path, noises: tuple[list[Any], Path]) -> None:
    with pytest.raises(ConfigError, match=r"was not trained on decode\.language=it"):
        recognise(noises[0], str(multilingual), noises[1], "it")


def test_a_slip_in_the_language_is_told_before_anything_is_decoded(
    config_of: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'english'"):
        decode.run(config_of(tmp_path, "decode.systems=[speech,cascade]", "decode.language=englisch"))
