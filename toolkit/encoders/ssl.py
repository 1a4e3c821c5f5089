"""Self-supervised encoders of raw samples: wav2vec 2.0 (arXiv 2006.11477), HuBERT (2106.07447), WavLM (2110.13900)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.assets.pretrained import place_of, pretrained
from toolkit.encoders.taps import tapped
from toolkit.errors import ConfigError
from toolkit.interfaces import ENCODERS, Encoder
from toolkit.types import Padded

FAMILIES = ("hubert", "wav2vec2", "wavlm")
UNUSED = {"masked_spec_embed"}
"""weights for pre-training, which fine-tuned models often leave out"""


@ENCODERS.register("ssl")
class SSLEncoder(Encoder):
    """Encodes with `model`: a folder, a hub id (`microsoft/wavlm-large`) or `asset:NAME`.

    `taps` are hidden states as their literature numbers them: 0 goes into the first block, k comes out of the k-th,
    -1 out of the last. Their frames stand side by side in the order given, (..., taps x width). Empty is the last
    hidden state with the final norm, where the model has one; a tap has none.

    Models with group norm in their first convolution ("base" ones) take statistics over the whole row, padding
    too, and no mask helps: they run in groups of equal length, so batches of mixed lengths gain them nothing.
    """

    def __init__(self, *, model: str, taps: tuple[int, ...] = ()) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        place = place_of(model)
        config: Any = AutoConfig.from_pretrained(place)
        if config.model_type not in FAMILIES:
            raise ConfigError(f"encoder=ssl takes models of {', '.join(FAMILIES)}; {model} is '{config.model_type}'")
        if getattr(config, "add_adapter", False):  # HuBERT has no such key
            raise ConfigError(f"{model} ends in strided convolutions of its own (add_adapter): use one without")
        self.taps = tapped(taps, config.num_hidden_layers + 1, config.num_hidden_layers, model)
        self.ssl, missing = pretrained(AutoModel, model, dtype=torch.float32)
        if lacking := sorted(missing - UNUSED):
            raise ConfigError(f"{model} lacks weights, such as {lacking[0]}: it is damaged or of another kind")
        self.normalise, self.sampling_rate = _preprocessing(place)
        self.equal_lengths: bool = config.feat_extract_norm == "group"
        if getattr(config, "conv_pos_batch_norm", False):  # HuBERT alone has it; it makes padding other than zero
            self.equal_lengths = True
        self.convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.shortest = 1
        for kernel, stride in reversed(self.convolutions):
            self.shortest = (self.shortest - 1) * stride + kernel
        self.frame_shift = math.prod(config.conv_stride) / self.sampling_rate
        self.output_dim = config.hidden_size * max(len(self.taps), 1)

    def forward(self, audio: Padded) -> Padded:
        """Encode (B, samples) to (B, T, output_dim), 50 frames a second with the usual convolutions."""
        rows = [self._prepare(row) for row in audio.unpad()]
        groups: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(len(row) if self.equal_lengths else 0, []).append(index)
        frames: dict[int, Tensor] = {}
        for members in groups.values():
            encoded = self._encode(Padded.of([rows[index] for index in members]))
            frames.update(zip(members, encoded.unpad(), strict=True))
        return Padded.of([frames[index] for index in range(len(rows))])

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return what the convolutions leave; audio shorter than one frame's samples is padded to that."""
        lengths = lengths.clamp(min=self.shortest)
        for kernel, stride in self.convolutions:
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def _prepare(self, samples: Tensor) -> Tensor:
        """Normalise one row (samples,) as the model was trained, before any padding can count."""
        if self.normalise:
            samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
        return nn.functional.pad(samples, (0, max(self.shortest - len(samples), 0)))

    def _encode(self, audio: Padded) -> Padded:
        # Models with group norm were trained without a mask, and rows of one length need none.
        mask = None if self.equal_lengths else audio.mask.long()
        output: Any = self.ssl(audio.values, attention_mask=mask, output_hidden_states=bool(self.taps))
        frames = output.last_hidden_state
        if self.taps:
            frames = torch.cat([output.hidden_states[tap] for tap in self.taps], dim=-1)
        return Padded(frames, self.output_lengths(audio.lengths))


def _preprocessing(place: str) -> tuple[bool, int]:
    """Return whether rows are normalised, and the sampling rate in Hz, as the model's own files say."""
    from transformers import Wav2Vec2FeatureExtractor

    try:
        extractor: Any = Wav2Vec2FeatureExtractor.from_pretrained(place)
    except OSError as error:
        raise ConfigError(
            f"{place} has no readable preprocessor_config.json, which says whether samples are normalised; "
            "copy the one of the original model beside the weights"
        ) from error
    return bool(extractor.do_normalize), int(extractor.sampling_rate)
