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
from toolkit.models.build import best_device
from toolkit.stages.paths import SUMMARY
from toolkit.stages.progress import bar, say

BATCH = 8
"""utterances decoded together, each padded to Whisper's 30 s"""


@torch.no_grad()
def recognise(cuts: Seq[Any], model: str, folder: Path) -> dict[str, str]:
    """Transcribe cuts greedily and keep the transcripts in `folder/recognised-<model>.json`.

    Args:
        cuts: lhotse cuts.
        model: Whisper's folder, hub id or `asset:NAME`.
        folder: where transcripts are kept.

    Returns:
        utterance id -> transcript.
    """
    corpus = json.loads((folder / SUMMARY).read_text())["settings"]
    mark = hashlib.sha256(f"{locate(model)} {corpus}".encode()).hexdigest()[:8]
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
