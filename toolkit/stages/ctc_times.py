"""Word times of a trained adapter that emits tokens: its own CTC aligns each transcript by force.

Any such checkpoint will do: a warm start by `loss=ctc` needs no word times itself. The audio is encoded on the way,
since the encode stage comes later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.config import Config
from toolkit.data.alignment import spoken_tokens
from toolkit.data.audio import AudioError
from toolkit.data.ctc_alignment import best_paths, words_at
from toolkit.data.cuts import load_cut_audio
from toolkit.data.forced_alignment import Found
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, TokenAdapter
from toolkit.models.build import best_device
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages.decode import trained_model
from toolkit.stages.paths import CONFIG, as_trained
from toolkit.training.checkpoint import WEIGHTS
from toolkit.types import Padded

DOUBT = 5.0
"""nats a token by which what the model hears by itself may be more probable than the transcript. Ours: with the warm
start of egs/mini the right transcript is at most 1.9 behind, and another utterance's at least 11.8"""


@dataclass(frozen=True)
class _Spoken:
    cut: Any
    words: list[str]
    labels: list[Tensor]
    """of each word"""
    audio: Tensor


class CTCTimes:
    """Aligns cuts; the model is loaded when the first one comes.

    Args:
        config: says where the models lie; all else is the checkpoint's.
        folder: the checkpoint.

    Raises:
        ConfigError: it is no checkpoint, or one of an adapter that emits no tokens.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        for name in (CONFIG, WEIGHTS):
            if not (folder / name).is_file():
                raise ConfigError(
                    f"align.source=ctc needs the checkpoint folder of a trained adapter in align.path, such as "
                    f"exp/warm/checkpoint; {folder.absolute()} has no {name}"
                )
        self.config = as_trained(config, folder)
        self.folder = folder
        if not issubclass(ADAPTERS[self.config.adapter["name"]], TokenAdapter):
            raise ConfigError(
                f"align.source=ctc needs an adapter that emits tokens (adapter=ctc); {folder} has a trained "
                f"'{self.config.adapter['name']}'"
            )

    def digest(self) -> str:
        """Return what tells this checkpoint from others."""
        return hashlib.sha256((self.folder / WEIGHTS).read_bytes()).hexdigest()

    @cached_property
    def model(self) -> SpeechLLM:
        """The trained model, whose decoder only lends its embeddings."""
        return trained_model(self.config, self.folder)

    @cached_property
    def tokenizer(self) -> ChatTokenizer:
        """The tokens that the adapter was trained on."""
        return ChatTokenizer(self.config.decoder["model"], self.config.system)

    def __call__(self, cuts: list[Any]) -> Iterator[Found]:
        """Align cuts in batches of about one length."""
        size = self.config.encode.batch_size
        todo = sorted(cuts, key=lambda cut: cut.duration)
        for start in range(0, len(todo), size):
            yield from self._align(todo[start : start + size])

    @torch.no_grad()
    def _align(self, cuts: Seq[Any]) -> Iterator[Found]:
        read = [self._read(cut) for cut in cuts]
        yield from (each for each in read if isinstance(each, Found))
        spoken = [each for each in read if isinstance(each, _Spoken)]
        if not spoken:
            return
        audio = Padded.of([each.audio for each in spoken]).to(best_device())
        targets = Padded.of([torch.cat(each.labels) for each in spoken]).to(best_device())
        logits = self._adapter.token_logits(self.model.encoder(audio))
        said, score = best_paths(logits, targets)
        freely = torch.log_softmax(logits.values.float(), -1).amax(-1).masked_fill(~logits.mask, 0).sum(1)
        doubts = ((freely - score) / targets.lengths).tolist()
        step = self._adapter.token_stride * self.model.encoder.frame_shift
        for each, path, doubt in zip(spoken, said.cpu(), doubts, strict=True):
            if doubt > DOUBT:
                yield Found(each.cut.id, reason="where the adapter does not hear the transcript")
            else:
                counts = [len(labels) for labels in each.labels]
                yield Found(each.cut.id, words_at(path, each.words, counts, step, each.cut.duration))

    def _read(self, cut: Any) -> _Spoken | Found:
        """Return what is to be aligned, or why it cannot be.

        Tokens that the adapter has never met are left out, as in its training, if others are left of the word.
        """
        transcript, encoder = cut.supervisions[0].text, self.model.encoder
        words = spoken_tokens(transcript)
        tokens = [self.tokenizer.transcript(word) for word in words]
        labels = [self._table[torch.tensor(own, dtype=torch.long)] for own in tokens]
        labels = [own[own > 0] for own in labels]
        if sum(tokens, ()) != self.tokenizer.transcript(transcript):
            return Found(cut.id, reason="whose words have other tokens than the transcript")
        if not words or not all(len(own) for own in labels):
            return Found(cut.id, reason="with a word whose tokens the adapter has never met")
        if cut.duration > encoder.max_duration:
            return Found(cut.id, reason="longer than the encoder takes")
        try:
            return _Spoken(cut, words, labels, load_cut_audio(cut, encoder.sampling_rate))
        except AudioError as error:
            return Found(cut.id, reason=error.reason)

    @property
    def _adapter(self) -> TokenAdapter:
        assert isinstance(self.model.adapter, TokenAdapter)
        return self.model.adapter

    @cached_property
    def _table(self) -> Tensor:
        """The label of each of the decoder's tokens: (V,), 0 where the adapter cannot emit it."""
        table = torch.zeros(self.model.decoder.vocabulary_size, dtype=torch.long)
        table[self._adapter.token_ids.cpu()] = torch.arange(1, len(self._adapter.token_ids) + 1)
        return table
