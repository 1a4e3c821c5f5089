"""Whisper's encoder (Radford et al. 2022), any size, padded as it was trained or at the true length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.assets.pretrained import pretrained
from toolkit.encoders.taps import tapped
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import ENCODERS, Encoder
from toolkit.types import Padded

WINDOW = 30.0
"""seconds that Whisper was trained on"""
HOP = 160
"""samples from one mel frame to the next; the encoder halves the rate"""
FFT = 400
"""samples in an analysis window"""


@ENCODERS.register("whisper")
class WhisperEncoder(Encoder):
    """Encodes with `model`: a folder, a hub id (`openai/whisper-large-v3`) or `asset:NAME`.

    `window=padded` runs the 30 seconds that Whisper was trained on and keeps the frames of the speech;
    `window=true_length` computes those frames only. The second is several times cheaper on short clips and
    *another function* (Whisper's own decoder breaks on it), so say which one a number used. `margin` seconds
    of silence after the speech bring it nearer to the first.

    `taps` are blocks as DeSTA (arXiv 2409.20007) numbers them, the first is 0: what those blocks put out, before
    the final norm, stands side by side in the order given, (..., taps x width); -1 is the last block. Empty is the
    last block with the final norm.
    """

    filters: Tensor
    hann: Tensor

    def __init__(self, *, model: str, window: str = "padded", margin: float = 0.0, taps: tuple[int, ...] = ()) -> None:
        super().__init__()
        from transformers import WhisperFeatureExtractor, WhisperModel

        if window not in ("padded", "true_length"):
            raise ConfigError(f"encoder.window is 'padded' or 'true_length', not '{window}'")
        whisper, _ = pretrained(WhisperModel, model, dtype=torch.float32)
        self.whisper = whisper.encoder
        self.window = window
        self.margin = round(margin * 50)
        config = whisper.config
        self.taps = tapped(taps, config.encoder_layers, config.encoder_layers, model)
        self.output_dim = config.d_model * max(len(self.taps), 1)
        self.sampling_rate = 16000
        self.frame_shift = 2 * HOP / self.sampling_rate
        self.max_duration = WINDOW
        extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins)
        self.register_buffer("filters", torch.tensor(extractor.mel_filters).float(), persistent=False)
        self.register_buffer("hann", torch.hann_window(FFT), persistent=False)

    def forward(self, audio: Padded) -> Padded:
        """Encode (B, samples) at 16 kHz to (B, T, output_dim), 50 frames a second.

        Raises:
            DataError: an utterance is longer than the 30 seconds that Whisper can take.
        """
        longest = int(audio.lengths.max())
        if longest > WINDOW * self.sampling_rate:
            raise DataError(
                f"{longest / self.sampling_rate:.1f} s of audio: Whisper takes {WINDOW:.0f} s at most; "
                "split it or set prepare.too_long=skip"
            )
        lengths = self.output_lengths(audio.lengths)
        most = self.whisper.config.max_source_positions
        if self.window == "padded":
            mel = self._mel(audio.zeroed(), 2 * most)
            whole = torch.full_like(lengths, most)
            frames = self._encode(mel, whole) if self.taps else self.whisper(mel).last_hidden_state
            return Padded(frames[:, : int(lengths.max())], lengths)
        computed = (lengths + self.margin).clamp(max=most)
        mel = self._mel(audio.zeroed(), 2 * int(computed.max()))
        frames = self._encode(mel, computed)
        return Padded(frames[:, : int(lengths.max())], lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return one frame for each 320 samples, rounded up."""
        return (-(-lengths // (2 * HOP))).clamp(min=1)

    def _mel(self, samples: Tensor, steps: int) -> Tensor:
        """Compute Whisper's log-mel spectrogram of zero-padded audio: (B, samples) -> (B, mels, steps).

        Each step sees 200 samples to both sides, so zeros after the speech make it independent of batch mates.
        """
        samples = nn.functional.pad(samples, (0, max(steps * HOP + FFT - samples.shape[1], 0)))
        spectrum = torch.stft(samples, FFT, HOP, window=self.hann, return_complex=True)
        power = spectrum[..., :steps].abs() ** 2
        mel = (power.transpose(1, 2) @ self.filters).transpose(1, 2).clamp(min=1e-10).log10()
        floor = mel.amax(dim=(1, 2), keepdim=True) - 8.0
        return (torch.maximum(mel, floor) + 4.0) / 4.0

    def _encode(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Run the encoder on (B, mels, 2 T) without its fixed length; `lengths` (B,) are valid frames."""
        encoder = self.whisper
        mel = Padded(mel.transpose(1, 2), 2 * lengths).zeroed().transpose(1, 2)
        hidden = nn.functional.gelu(encoder.conv1(mel))
        # The first convolution writes past the end; alone, the second would find zeros there.
        hidden = Padded(hidden.transpose(1, 2), 2 * lengths).zeroed().transpose(1, 2)
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        silent = ~Padded(hidden, lengths).mask[:, None, None, :].expand(-1, 1, hidden.shape[1], -1)
        keys = torch.zeros_like(silent, dtype=hidden.dtype).masked_fill(silent, torch.finfo(hidden.dtype).min)
        tapped: dict[int, Tensor] = {}
        for number, layer in enumerate(encoder.layers):
            output = layer(hidden, attention_mask=keys)
            hidden = output[0] if isinstance(output, tuple) else output
            if number in self.taps:
                tapped[number] = hidden
        if self.taps:
            return torch.cat([tapped[tap] for tap in self.taps], dim=-1)
        return encoder.layer_norm(hidden)  # type: ignore[no-any-return]
