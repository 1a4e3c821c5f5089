"""The speech LLM: encoder, adapter and decoder, joined by the splice."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import Adapter, CountingAdapter, Decoder, Encoder, TimedAdapter, TokenAdapter
from toolkit.models.encoder_training import set_mode
from toolkit.models.splice import Spliced, align_labels, answer_starts, cut_embeddings, cut_frames, spans_of, splice
from toolkit.types import (
    Batch,
    GenerationOptions,
    LossInputs,
    Outputs,
    Padded,
    Quantities,
    Sequence,
    SpanEmbeddings,
    SpanOutputs,
)

CUTS = ("frames", "embeddings", "audio")


def check_cut(cut: str, adapter: type[Adapter]) -> None:
    """Refuse to cut where an adapter cannot be.

    Raises:
        ConfigError: there is no such cut, or it needs to know when the adapter's outputs happen.
    """
    if cut not in CUTS:
        raise ConfigError(f"cut is one of {', '.join(CUTS)}, not '{cut}'")
    if cut == "embeddings" and not issubclass(adapter, TimedAdapter):
        raise ConfigError(
            f"cut=embeddings needs an adapter that knows when its outputs happen; {adapter.__name__} does not: "
            "use cut=frames"
        )


def check_needs(needs: frozenset[str], adapter: type[Adapter]) -> None:
    """Refuse a loss that asks an adapter for what it does not have.

    Raises:
        ConfigError: naming the kind of adapter that has it.
    """
    if "spans" in needs and not issubclass(adapter, TokenAdapter):
        raise ConfigError(f"the ctc loss needs an adapter that emits tokens (adapter=ctc); {adapter.__name__} does not")
    if "quantities" in needs and not issubclass(adapter, CountingAdapter):
        raise ConfigError(
            f"the cif_length loss needs an adapter that counts its outputs (adapter=cif); {adapter.__name__} does not"
        )


class SpeechLLM(nn.Module):
    """Answers prompts about speech with the answers that its decoder gives about text.

    Args:
        encoder: waveform -> frames; frozen, or trained as `toolkit.models.encoder_training` says.
        adapter: frames -> embeddings; the part that is trained.
        decoder: the causal language model, frozen but for what it says is trained.
        cut: where interleaving cuts. `frames`: each span is adapted alone, which suits every adapter;
            `embeddings`: the utterance is adapted once and its embeddings are cut by their times; `audio`: each span
            is encoded and adapted alone, and hears nothing of what is around it.

    Raises:
        ConfigError: `cut="embeddings"` with an adapter that cannot say when its outputs happen.
    """

    def __init__(self, encoder: Encoder, adapter: Adapter, decoder: Decoder, cut: str = "frames") -> None:
        super().__init__()
        check_cut(cut, type(adapter))
        self.encoder = encoder
        self.adapter = adapter
        self.decoder = decoder
        self.cut = cut
        self.shares_prefixes = True
        """whether rows that open with the same text may run it together; never where processes share the decoder out"""

    def train(self, mode: bool = True) -> SpeechLLM:
        """Switch only what is trained: frozen parts have no dropout to switch on."""
        super().train(mode)
        for part in (self.adapter, self.decoder):
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
        set_mode(self.encoder, training=mode)
        return self

    def frames(self, batch: Batch) -> Padded:
        """Return the encoder's frames (R, T, D): the cached ones, or computed from the audio.

        Raises:
            ConfigError: cached frames and an encoder that is trained, or frames not as wide as the encoder says.
        """
        if batch.frames is None:
            assert batch.audio is not None
            return self._encode(batch.audio)
        if self._hears_anew:
            raise ConfigError("cached frames are a frozen encoder's, and this one is trained: give it the audio")
        return self._as_wide_as_said(batch.frames)

    def speech(self, batch: Batch) -> Padded:
        """Return what spans are cut from: the frames, or the audio (R, samples) with `cut="audio"`.

        Raises:
            ConfigError: as `frames`; or the audio is to be cut, and there is none.
        """
        if self.cut != "audio":
            return self.frames(batch)
        if batch.audio is None:
            raise ConfigError("cut=audio encodes pieces of the audio, and the batch holds cached frames")
        return batch.audio

    @property
    def _hears_anew(self) -> bool:
        return any(p.requires_grad for p in self.encoder.parameters())

    def _encode(self, audio: Padded) -> Padded:
        with nullcontext() if self._hears_anew else torch.no_grad():
            return self._as_wide_as_said(self.encoder(audio))

    def _as_wide_as_said(self, frames: Padded) -> Padded:
        width, said = frames.values.shape[2], self.encoder.output_dim
        if width != said:
            raise ConfigError(f"frames have {width} values, and {type(self.encoder).__name__} says output_dim {said}")
        return frames

    def spans(self, speech: Padded, sequences: Seq[Sequence], recordings: Seq[tuple[int, ...]] = ()) -> list[Tensor]:
        """Adapt the speech of all rows: S tensors (u, D), in order. `recordings` as in `Batch`.

        Args:
            speech: what is cut, as `speech` returns it.
            sequences: B rows.
            recordings: of each row, its recordings.

        Raises:
            ConfigError: they are not as wide as the decoder's embeddings.
        """
        if not any(spans_of(row) for row in sequences):
            return []
        shift = 1 / self.encoder.sampling_rate if self.cut == "audio" else self.encoder.frame_shift
        if self.cut == "embeddings":
            assert isinstance(self.adapter, TimedAdapter)
            embeddings, times = self.adapter.timed(speech)
            spans = cut_embeddings(embeddings, times, speech.lengths, sequences, shift, recordings)
        else:
            pieces = cut_frames(speech, sequences, shift, recordings)
            adapted: Padded = self.adapter(self._encode(pieces) if self.cut == "audio" else pieces)
            spans = adapted.unpad()
        width, wanted = spans[0].shape[1], self.decoder.embedding_dim
        if width != wanted:
            raise ConfigError(
                f"{type(self.adapter).__name__} gives embeddings of {width} values, and "
                f"{type(self.decoder).__name__} takes {wanted}"
            )
        return spans

    def rows(self, speech: Padded, sequences: Seq[Sequence], recordings: Seq[tuple[int, ...]] = ()) -> list[Spliced]:
        """Splice speech and text into rows for the decoder; arguments as for `spans`."""
        spans = self.spans(speech, sequences, recordings)
        return splice(sequences, spans, self.decoder.embed, speech.values.device)

    def forward(self, batch: Batch, needs: frozenset[str]) -> LossInputs:
        """Compute what a loss needs, and nothing else."""
        check_needs(needs, type(self.adapter))
        speech = self.speech(batch)
        frames = self.frames(batch) if self.cut == "audio" and needs & {"spans", "quantities"} else speech
        spans = self._span_outputs(frames, batch) if "spans" in needs else None
        quantities = self._quantities(frames, batch) if "quantities" in needs else None
        heard = self.spans(speech, batch.sequences, batch.recordings) if needs & {"student", "embeddings"} else []
        embeddings = self._span_embeddings(heard, batch) if "embeddings" in needs else None
        if "student" not in needs:
            nothing = torch.zeros(0, dtype=torch.long, device=speech.values.device)
            return LossInputs(nothing, spans=spans, quantities=quantities, embeddings=embeddings)
        rows = splice(batch.sequences, heard, self.decoder.embed, speech.values.device)
        targets = torch.cat([row.targets for row in rows])
        teacher, stored = None, batch.stored_teacher if "teacher" in needs else None
        if stored is not None and len(stored.token_ids) != len(targets):
            raise DataError(f"a stored teacher of {len(stored.token_ids)} positions, and {len(targets)} are supervised")
        if "teacher" in needs and stored is None:
            if batch.teacher_sequences is None:
                raise ConfigError("this loss needs a teacher, and the batch has no text view")
            with torch.no_grad(), self.decoder.as_text_llm():
                teacher = self._decode(self.rows(speech, batch.teacher_sequences, batch.recordings))
        starts = answer_starts(batch.sequences).to(targets.device)
        student = self._decode(rows)
        return LossInputs(targets, student, teacher, spans, quantities, embeddings, starts, batch.end_of_turn, stored)

    @torch.no_grad()
    def generate(self, batch: Batch, options: GenerationOptions) -> list[list[int]]:
        """Answer each row of the batch greedily."""
        return self.answer(self.rows(self.speech(batch), batch.sequences, batch.recordings), options)

    @torch.no_grad()
    def answer(self, rows: Seq[Spliced], options: GenerationOptions) -> list[list[int]]:
        """Answer rows greedily."""
        return self.decoder.generate(
            [row.embeddings for row in rows], options, [row.prefix for row in rows], [row.audio for row in rows]
        )

    def _decode(self, rows: Seq[Spliced]) -> Outputs:
        return self.decoder.outputs(
            [row.embeddings for row in rows],
            [row.positions for row in rows],
            [row.prefix for row in rows] if self.shares_prefixes else (),
            [row.audio for row in rows],
        )

    def _span_embeddings(self, speech: Seq[Tensor], batch: Batch) -> SpanEmbeddings:
        assert batch.spoken is not None
        tokens = tuple(ids for row in batch.spoken for ids in row)
        ids = [torch.tensor(t, dtype=torch.long, device=s.device) for s, t in zip(speech, tokens, strict=True)]
        with torch.no_grad():
            text = tuple(self.decoder.embed(row) for row in ids)
        rows = tuple(i for i, row in enumerate(batch.spoken) for _ in row)
        return SpanEmbeddings(tuple(speech), text, tokens, rows)

    def _quantities(self, frames: Padded, batch: Batch) -> Quantities:
        assert isinstance(self.adapter, CountingAdapter)
        assert batch.transcripts is not None
        return Quantities(self.adapter.quantities(frames), batch.transcripts.lengths)

    def _span_outputs(self, frames: Padded, batch: Batch) -> SpanOutputs:
        assert isinstance(self.adapter, TokenAdapter)
        assert batch.transcripts is not None
        table = torch.full((self.decoder.vocabulary_size,), 0, device=batch.transcripts.values.device)
        table[self.adapter.token_ids] = torch.arange(1, len(self.adapter.token_ids) + 1, device=table.device)
        labels = [table[row] for row in batch.transcripts.unpad()]
        logits = self.adapter.token_logits(frames)
        alignment = None
        if batch.token_times is not None:
            step = self.adapter.token_stride * self.encoder.frame_shift
            alignment = align_labels(labels, batch.token_times.unpad(), logits, step)
        # A token the adapter cannot emit is left out of the target: development text may hold some.
        return SpanOutputs(logits, Padded.of([row[row > 0] for row in labels]), alignment)
