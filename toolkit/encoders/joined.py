"""Two encoders side by side, channels joined: Whisper and BEATs in SALMONN (arXiv 2310.13289), and pairs like it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import ConfigError
from toolkit.interfaces import ENCODERS, Encoder
from toolkit.types import Padded


@ENCODERS.register("joined")
class JoinedEncoder(Encoder):
    """Runs `first` and `second` on the same audio and joins their frames by channel.

    Each is the mapping that configures an encoder alone, `{name: whisper, model: ...}`, which a recipe gives as it
    is and the command line as `+encoder.first={...}`. As in SALMONN each is layer-normed and the shorter padded with
    zeros; the norms are plain, without weights, so that a frozen encoder has nothing to learn (ours). Published pairs
    have one frame rate. Where one is slower by a whole factor its frames are repeated, and the faster one says how many
    there are (ours).

    WavLLM (arXiv 2404.00656) adapts each branch before it joins them: take `norm: false` and an adapter that
    splits the channels again.
    """

    def __init__(self, *, first: dict[str, Any], second: dict[str, Any], norm: bool = True) -> None:
        super().__init__()
        for key, options in (("first", first), ("second", second)):
            if "name" not in options:
                raise ConfigError(f"encoder.{key} has no name: give it as {{name: whisper, model: ...}}")
        self.first = ENCODERS.build(first)
        self.second = ENCODERS.build(second)
        self.norm = norm
        parts = self.parts
        if self.first.sampling_rate != self.second.sampling_rate:
            rates = " and ".join(f"{part.sampling_rate} Hz" for part in parts)
            raise ConfigError(f"encoder=joined gives both encoders the same audio; these want {rates}")
        self.sampling_rate = self.first.sampling_rate
        self.frame_shift = min(part.frame_shift for part in parts)
        self.repeats = [round(part.frame_shift / self.frame_shift) for part in parts]
        for part, repeat in zip(parts, self.repeats, strict=True):
            if abs(part.frame_shift - repeat * self.frame_shift) > 1e-6:
                shifts = " and ".join(f"{1000 * p.frame_shift:g} ms" for p in parts)
                raise ConfigError(f"encoder=joined needs frame shifts of which one divides the other, not {shifts}")
        self.output_dim = sum(part.output_dim for part in parts)
        self.max_duration = min(part.max_duration for part in parts)

    @property
    def parts(self) -> tuple[Encoder, Encoder]:
        """The two encoders, in the order of their channels."""
        return self.first, self.second

    def forward(self, audio: Padded) -> Padded:
        """Encode (B, samples) to (B, T, first.output_dim + second.output_dim)."""
        lengths = self.output_lengths(audio.lengths)
        steps = int(lengths.max())
        channels = []
        for part, repeat in zip(self.parts, self.repeats, strict=True):
            values = part(audio).zeroed()
            if self.norm:  # zeros stay zeros: the norm has no bias
                values = nn.functional.layer_norm(values, values.shape[-1:])
            values = values.repeat_interleave(repeat, dim=1)[:, :steps]
            channels.append(nn.functional.pad(values, (0, 0, 0, steps - values.shape[1])))
        return Padded(torch.cat(channels, dim=-1), lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the frames of the encoder that gives more of them at the faster rate."""
        fast = [part for part, repeat in zip(self.parts, self.repeats, strict=True) if repeat == 1]
        return torch.stack([part.output_lengths(lengths) for part in fast]).amax(dim=0)
