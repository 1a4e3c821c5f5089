"""Word times of Whisper's decoder: it reads each transcript along with the audio, and where it looks is kept.

Any Whisper will do, for any corpus in a language it knows: nothing is trained. The audio is encoded on the way, padded
to the 30 seconds without which the decoder does not work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.assets.locate import locate
from toolkit.config import Config, is_given
from toolkit.data.alignment import cased, normal, spoken_tokens
from toolkit.data.attention_alignment import attention_scores, best_walk, words_on
from toolkit.data.audio import AudioError
from toolkit.data.cuts import load_cut_audio
from toolkit.data.fingerprint import fingerprint
from toolkit.data.forced_alignment import Found
from toolkit.errors import ConfigError
from toolkit.models.build import best_device
from toolkit.stages.recognise import language_code
from toolkit.types import Padded

VERSION = "whisper 1"
"""to be changed when the same model, audio and transcript give other times"""
DOUBT = 1.5
"""nats a token by which what the model would write by itself may be more probable than the transcript. Ours: with
Whisper tiny.en on the dev set of egs/mini the right transcript is at most 0.82 behind, another one at least 1.95"""
RATE = 16000
WINDOW = 30.0
"""seconds that Whisper takes"""
SHIFT = 0.02
"""seconds from one frame of the encoder to the next"""
PART = "\ufffd"
"""what a token of a part of a letter is decoded to"""


@dataclass(frozen=True)
class _Spoken:
    cut: Any
    words: list[str]
    tokens: list[list[int]]
    """of each word"""
    audio: Tensor


class WhisperTimes:
    """Aligns cuts; the model is loaded when the first one comes.

    Args:
        config: says which Whisper, and the language (`decode.language`) that one of several is told.

    Raises:
        ConfigError: nobody names a Whisper, or it knows no such language.
    """

    def __init__(self, config: Config) -> None:
        model = config.align.model or (config.encoder.get("model") if config.encoder["name"] == "whisper" else "")
        if not is_given(model):
            raise ConfigError(
                f"align.source=whisper needs a Whisper, and encoder={config.encoder['name']} names none: name one in "
                "align.model, such as openai/whisper-small"
            )
        self.name = str(model)
        self.place = locate(self.name)
        self.language = language_code(config.decode.language)
        self.batch_size = config.encode.batch_size
        self.looked: dict[int, Tensor] = {}
        """layer -> (B, heads, N, 1500) of the last rows that were run"""

    def digest(self) -> str:
        """Return what tells this Whisper, and what it is told, from others."""
        folder = Path(self.place)
        deciding = sorted([*folder.glob("*.safetensors"), *folder.glob("generation_config.json")])
        files = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in deciding}
        return fingerprint({"version": VERSION, "language": self.language, "model": files or self.name})

    def __call__(self, cuts: list[Any]) -> Iterator[Found]:
        """Align cuts batch by batch."""
        for start in range(0, len(cuts), self.batch_size):
            yield from self._align(cuts[start : start + self.batch_size])

    @cached_property
    def model(self) -> Any:
        """The whole Whisper, whose cross-attention is kept in `looked` as the decoder runs."""
        from transformers import WhisperForConditionalGeneration

        whisper: Any = WhisperForConditionalGeneration.from_pretrained(self.place, dtype=torch.float32)
        for number, heads in _heads(whisper).items():
            whisper.model.decoder.layers[number].encoder_attn.register_forward_hook(partial(self._look, number, heads))
        return whisper.eval().to(best_device())

    def _look(self, layer: int, heads: list[int], module: Any, inputs: Any, output: Any) -> None:
        self.looked[layer] = output[1][:, heads]

    @cached_property
    def tokenizer(self) -> Any:
        """Whisper's own."""
        from transformers import WhisperTokenizerFast

        return WhisperTokenizerFast.from_pretrained(self.place)

    @cached_property
    def extractor(self) -> Any:
        """Audio -> log-mel spectrogram of 30 s."""
        from transformers import WhisperFeatureExtractor

        return WhisperFeatureExtractor(feature_size=self.model.config.num_mel_bins)

    @cached_property
    def opening(self) -> list[int]:
        """The tokens before a text: start, the language and the task where there are several, no timestamps."""
        generation = self.model.generation_config
        several = bool(getattr(generation, "is_multilingual", False))
        if several and f"<|{self.language}|>" not in generation.lang_to_id:
            raise ConfigError(
                f"{self.name} knows many languages and must be told which it hears: decode.language="
                f"{self.language or '(empty)'} is none of them"
            )
        told = [f"<|{self.language}|>", "<|transcribe|>"] if several else []
        # By name: the tokenizer's own prefix counts languages, and is wrong where a vocabulary has others.
        names = ["<|startoftranscript|>", *told, "<|notimestamps|>"]
        return list(self.tokenizer.convert_tokens_to_ids(names))

    def _align(self, cuts: Seq[Any]) -> Iterator[Found]:
        read = [self._read(cut) for cut in cuts]
        yield from (each for each in read if isinstance(each, Found))
        spoken = [each for each in read if isinstance(each, _Spoken)]
        if not spoken:
            return
        before, end = len(self.opening), self.tokenizer.eos_token_id
        texts = [chain.from_iterable(each.tokens) for each in spoken]
        rows = Padded.of([torch.tensor([*self.opening, *text, end]) for text in texts])
        attention, doubts = self._run([each.audio for each in spoken], rows)
        for each, looked, doubt in zip(spoken, attention, doubts, strict=True):
            if float(doubt[before - 1 :].mean()) > DOUBT:
                yield Found(each.cut.id, reason="where Whisper does not hear the transcript")
                continue
            # What a step looks at is the token that it writes, the next one; the last step writes the end.
            walk = best_walk(attention_scores(looked)[before - 1 : -1].double().cpu().numpy())
            spans = self._spans(each.tokens)
            yield Found(each.cut.id, words_on(walk, each.words, spans, SHIFT, each.cut.duration))

    @torch.no_grad()
    def _run(self, audio: list[Tensor], rows: Padded) -> tuple[list[Tensor], list[Tensor]]:
        """Let the decoder write the rows.

        Returns:
            of each row, the attention of its N steps on its T frames (H, N, T); and how much more probable than the
            next token another one is, in nats (N - 1,).
        """
        mel = self.extractor([each.numpy() for each in audio], sampling_rate=RATE, return_tensors="pt").input_features
        tokens = rows.zeroed().to(best_device())  # a row does not look at what is right of its end
        self.model.set_attn_implementation("sdpa")
        frames = self.model.model.encoder(mel.to(best_device())).last_hidden_state
        self.model.set_attn_implementation("eager")  # the other one does not say what it looks at
        logits = self.model(encoder_outputs=(frames,), decoder_input_ids=tokens, use_cache=False).logits[:, :-1].float()
        doubts = logits.amax(-1) - logits.gather(2, tokens[:, 1:, None])[..., 0]
        looked = torch.cat([self.looked[layer] for layer in sorted(self.looked)], dim=1)
        sizes = [(int(steps), _frames(each)) for steps, each in zip(rows.lengths, audio, strict=True)]
        attention = [row[:, :steps, :count] for row, (steps, count) in zip(looked, sizes, strict=True)]
        return attention, [row[: steps - 1] for row, (steps, _) in zip(doubts, sizes, strict=True)]

    def _read(self, cut: Any) -> _Spoken | Found:
        """Return what is to be aligned, or why it cannot be."""
        text = cut.supervisions[0].text
        words = spoken_tokens(text)
        # Whisper writes in upper and lower case, and hardly knows the tokens of a text in capitals.
        written = spoken_tokens(cased(text, "sentence")) if text.isupper() else words
        # A special token spelt out in it is characters, and no token.
        plain = {"add_special_tokens": False, "split_special_tokens": True}
        tokens = [self.tokenizer(f" {word}", **plain)["input_ids"] for word in written]
        count = sum(map(len, tokens))
        if not words:
            return Found(cut.id, reason="without words")
        if cut.duration > WINDOW:
            return Found(cut.id, reason="longer than Whisper takes")
        if len(self.opening) + count + 1 > self.model.config.max_target_positions:
            return Found(cut.id, reason="with more tokens than Whisper writes")
        try:
            audio = load_cut_audio(cut, RATE)
        except AudioError as error:
            return Found(cut.id, reason=error.reason)
        if count >= _frames(audio):
            return Found(cut.id, reason="with more tokens than frames")
        return _Spoken(cut, words, tokens, audio)

    def _spans(self, tokens: list[list[int]]) -> list[tuple[int, int]]:
        """Number the tokens of each word that are said: a pause is written as punctuation, before a word or after."""
        spans, first = [], 0
        for own in tokens:
            said = self._said(own) or range(len(own))
            spans.append((first + said[0], first + said[-1] + 1))
            first += len(own)
        return spans

    def _said(self, tokens: list[int]) -> list[int]:
        """Return the places of the tokens that hold letters or digits; several may share one character."""
        said: list[int] = []
        start = 0
        for end in range(1, len(tokens) + 1):
            text = self.tokenizer.decode(tokens[start:end])
            if PART in text and end < len(tokens):
                continue
            if normal(text):
                said += range(start, end)
            start = end
        return said


def _heads(whisper: Any) -> dict[int, list[int]]:
    """Return the heads of each layer that follow the speech; where nobody knows, all of the upper half's."""
    known = getattr(whisper.generation_config, "alignment_heads", None)
    if not known:
        layers, heads = whisper.config.decoder_layers, whisper.config.decoder_attention_heads
        return {layer: list(range(heads)) for layer in range(layers // 2, layers)}
    return {layer: [head for at, head in known if at == layer] for layer in sorted({at for at, _ in known})}


def _frames(audio: Tensor) -> int:
    """Return how many of the encoder's frames hold something of the audio."""
    return -(-len(audio) // round(SHIFT * RATE))
