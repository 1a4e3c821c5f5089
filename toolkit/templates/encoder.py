"""The encoder `new_part`. Say here which idea it is, and whose: paper, arXiv id."""

import torch
from torch import Tensor, nn

from toolkit.interfaces import ENCODERS, Encoder, Padded

KERNEL, STRIDE = 400, 320
"""samples that a frame hears, and from one frame to the next"""


@ENCODERS.register("new_part")
class NewPartEncoder(Encoder):
    """Compares the samples with `channels` random patterns, 50 times a second."""

    filters: Tensor

    # What is keyword-only is configuration: `encoder.channels=80`.
    def __init__(self, *, channels: int = 64) -> None:
        super().__init__()
        self.output_dim, self.sampling_rate, self.frame_shift = channels, 16000, STRIDE / 16000
        # Of a fixed seed: frames are cached, and another process must make the same.
        filters = torch.randn(channels, 1, KERNEL, generator=torch.Generator().manual_seed(0))
        self.register_buffer("filters", filters / KERNEL**0.5)

    def forward(self, audio: Padded) -> Padded:
        """Encode (B, samples) at 16 kHz to (B, T, channels)."""
        lengths = self.output_lengths(audio.lengths)
        samples = audio.zeroed()  # a row hears zeros after its end, whatever it is batched with
        missing = (int(lengths.max()) - 1) * STRIDE + KERNEL - samples.shape[1]
        samples = nn.functional.pad(samples, (0, max(missing, 0)))
        frames = nn.functional.conv1d(samples[:, None], self.filters, stride=STRIDE).abs().log1p()
        return Padded(frames.transpose(1, 2)[:, : int(lengths.max())], lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return one frame for each 320 samples, rounded up."""
        return (-(-lengths // STRIDE)).clamp(min=1)
