"""Filterbank encoder: log-mel frames, stacked, and nothing learnt. The floor under every pretrained encoder."""

import torch
from torch import Tensor, nn

from toolkit.errors import ConfigError
from toolkit.interfaces import ENCODERS, Encoder, Padded

WINDOW, HOP, FFT = 400, 160, 512
"""samples at 16 kHz: 25 ms that a mel frame hears, 10 ms to the next one, and the length of the transform"""
FLOOR = 1e-6
"""power below which there is silence, so that zeros have a logarithm"""


def mel_filters(mels: int, sampling_rate: int) -> Tensor:
    """Make triangles that are evenly spaced in mel, 2595 log10(1 + Hz / 700): (FFT / 2 + 1, mels)."""
    top = 2595 * torch.log10(torch.tensor(1 + sampling_rate / 2 / 700))
    corners = 700 * (10 ** (torch.linspace(0, float(top), mels + 2) / 2595) - 1)
    bins = torch.linspace(0, sampling_rate / 2, FFT // 2 + 1)[:, None]
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp(min=0)


@ENCODERS.register("fbank")
class FbankEncoder(Encoder):
    """Computes `mels` log-mel bands every 10 ms and puts `stack` of these side by side."""

    filters: Tensor
    window: Tensor

    def __init__(self, *, mels: int = 80, stack: int = 4) -> None:
        super().__init__()
        if mels < 1 or stack < 1:
            raise ConfigError(f"encoder.mels and encoder.stack are 1 or more, not {mels} and {stack}")
        self.stack = stack
        self.sampling_rate = 16000
        self.output_dim = mels * stack
        self.frame_shift = stack * HOP / self.sampling_rate
        filters = mel_filters(mels, self.sampling_rate)
        if not filters.any(0).all():
            raise ConfigError(f"encoder.mels={mels} is too many: bands fall between the bins of {FFT} samples")
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def forward(self, audio: Padded) -> Padded:
        """Encode (B, samples) at 16 kHz to (B, T, mels * stack)."""
        lengths = self.output_lengths(audio.lengths)
        steps = self.stack * int(lengths.max())
        # Zeros follow the speech, in a batch as alone: the last windows hear what is left, then silence.
        samples = audio.zeroed()
        samples = nn.functional.pad(samples, (0, max((steps - 1) * HOP + WINDOW - samples.shape[1], 0)))
        windows = samples.unfold(1, WINDOW, HOP)[:, :steps] * self.window
        power = torch.fft.rfft(windows, FFT).abs() ** 2 / WINDOW
        mel = (power @ self.filters).clamp(min=FLOOR).log10()
        return Padded(mel.reshape(len(mel), -1, self.output_dim), lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return one frame for each `stack` times 160 samples, rounded up."""
        return (-(-lengths // (self.stack * HOP))).clamp(min=1)
