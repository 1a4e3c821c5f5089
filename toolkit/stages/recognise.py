"""Recognise: what Whisper itself transcribes, for the cascade beside which a speech LLM is judged."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import torch

from toolkit.assets.locate import locate
from toolkit.data.cuts import load_cut_audio
from toolkit.errors import ConfigError, unknown_name
from toolkit.models.build import best_device
from toolkit.stages.paths import SUMMARY
from toolkit.stages.progress import bar, say

BATCH = 8
"""utterances decoded together, each padded to Whisper's 30 s"""


@torch.no_grad()
def recognise(cuts: Seq[Any], model: str, folder: Path, language: str) -> dict[str, str]:
    """Transcribe cuts greedily and keep the transcripts in `folder/recognised-<model>.json`.

    Args:
        cuts: lhotse cuts.
        model: Whisper's folder, hub id or `asset:NAME`.
        folder: where transcripts are kept.
        language: what a multilingual model is told it hears; empty lets it guess.

    Returns:
        utterance id -> transcript.

    Raises:
        ConfigError: the model does not know the language.
    """
    corpus = json.loads((folder / SUMMARY).read_text())["settings"]
    mark = hashlib.sha256(f"{locate(model)} {language} {corpus}".encode()).hexdigest()[:8]
    path = folder / f"recognised-{mark}.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    todo = [cut for cut in cuts if cut.id not in known]
    if todo:
        from transformers import (
            WhisperFeatureExtractor,
            WhisperForConditionalGeneration,
            WhisperTokenizerFast,
        )

        place = locate(model)
        whisper: Any = (
            WhisperForConditionalGeneration.from_pretrained(place, dtype=torch.float32).eval().to(best_device())
        )
        _tell(whisper.generation_config, language, model)
        tokenizer: Any = WhisperTokenizerFast.from_pretrained(place)
        extractor = WhisperFeatureExtractor(feature_size=whisper.config.num_mel_bins)
        with bar("recognise", len(todo)) as progress:
            for start in range(0, len(todo), BATCH):
                batch = todo[start : start + BATCH]
                audio = [load_cut_audio(cut, 16000).numpy() for cut in batch]
                mel = extractor(audio, sampling_rate=16000, return_tensors="pt").input_features
                tokens = whisper.generate(mel.to(best_device()), do_sample=False, num_beams=1)
                for cut, text in zip(batch, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
                    known[cut.id] = text.strip()
                temporary = path.with_suffix(".tmp")
                temporary.write_text(json.dumps(known, ensure_ascii=False, indent=0))
                os.replace(temporary, path)
                progress.advance(len(batch))
    else:
        say(f"recognise: done ({path})")
    return {cut.id: known[cut.id] for cut in cuts}


def language_code(language: str) -> str:
    """Return Whisper's code of a language, `de` for `German`; empty stays empty.

    Raises:
        ConfigError: Whisper has no such language.
    """
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
    if code and code not in LANGUAGES:
        raise unknown_name("language of Whisper (decode.language)", language, list(TO_LANGUAGE_CODE))
    return str(code)


def _tell(generation: Any, language: str, model: str) -> None:
    """Set what a multilingual Whisper is to write down; one of English alone has nothing to be told."""
    if not getattr(generation, "is_multilingual", False):
        return
    code = language_code(language)
    if code and f"<|{code}|>" not in generation.lang_to_id:
        raise ConfigError(f"{model} was not trained on decode.language={language}")
    # Its files may name a language of their own, which None overrules: then it guesses.
    generation.language, generation.task = code or None, "transcribe"
