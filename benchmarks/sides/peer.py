"""The peer: transformers' Voxtral (Whisper encoder, stacking MLP, Llama) with our weights, trained by its Trainer.

Its projector stacks `intermediate_size / d_model` frames, which is 4 for Whisper's sizes, as our `stack` adapter does
in its Voxtral form; so Whisper tiny.en, our fresh adapter and SmolLM2 fit as they are. It knows no length of speech:
the LLM reads the embeddings of all 30 seconds. All but the projector is frozen. Its inputs lie in memory, mel too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from typing import Any

import torch
from torch import Tensor

from benchmarks.sides.usual import IGNORED
from benchmarks.turns import Steps, Turn
from benchmarks.workload import BF16, FP32, Spec, Workload, config_of
from toolkit.errors import DataError
from toolkit.models.speech_llm import SpeechLLM
from toolkit.types import Sequence, TokenPiece

MODES = (FP32, "autocast", BF16)


def free_token(model: SpeechLLM, sequences: Iterable[Sequence]) -> int:
    """Return the last token of the vocabulary that no row has: it stands for audio.

    Raises:
        DataError: there is none.
    """
    used = {token for row in sequences for piece in row if isinstance(piece, TokenPiece) for token in piece.token_ids}
    free = [token for token in range(model.decoder.vocabulary_size) if token not in used]
    if not free:
        raise DataError("every token of the vocabulary stands in some row: Voxtral needs one for audio")
    return free[-1]


def voxtral(model: SpeechLLM, audio: int) -> Any:
    """Build transformers' Voxtral with the weights of our model; `audio` is the token that stands for audio.

    Raises:
        DataError: our parts are not shaped as its are.
    """
    from transformers import VoxtralConfig, VoxtralEncoderConfig, VoxtralForConditionalGeneration

    whisper: Any = model.encoder.whisper
    lm: Any = model.decoder.lm
    adapter: Any = model.adapter
    sizes = whisper.config
    if adapter.factor * sizes.d_model != sizes.encoder_ffn_dim:
        raise DataError(
            f"Voxtral stacks {sizes.encoder_ffn_dim // sizes.d_model} frames of this Whisper, and the adapter "
            f"{adapter.factor}: give adapter.factor={sizes.encoder_ffn_dim // sizes.d_model}"
        )
    ears = VoxtralEncoderConfig(
        hidden_size=sizes.d_model, intermediate_size=sizes.encoder_ffn_dim, num_hidden_layers=sizes.encoder_layers,
        num_attention_heads=sizes.encoder_attention_heads, num_mel_bins=sizes.num_mel_bins,
        max_source_positions=sizes.max_source_positions, activation_function=sizes.activation_function,
    )  # fmt: skip
    config = VoxtralConfig(audio_config=ears.to_dict(), text_config=lm.config.to_dict(), audio_token_id=audio)
    peer = VoxtralForConditionalGeneration(config)
    peer.model.audio_tower.load_state_dict(whisper.state_dict())
    peer.model.language_model.load_state_dict(lm.base_model.state_dict())
    peer.lm_head.weight = lm.get_output_embeddings().weight
    peer.model.language_model.embed_tokens.weight = lm.get_input_embeddings().weight
    projector = peer.model.multi_modal_projector
    projector.linear_1.weight.data.copy_(adapter.project[0].weight.data)
    projector.linear_2.weight.data.copy_(adapter.project[2].weight.data)
    peer.requires_grad_(False)
    projector.requires_grad_(True)
    return peer


def mel_of(model: SpeechLLM, samples: Tensor) -> Tensor:
    """Return Whisper's mel of 30 seconds of one utterance (n,): (mels, 3000)."""
    whisper: Any = model.encoder
    mel: Tensor = whisper._mel(samples[None], 2 * whisper.whisper.config.max_source_positions)
    return mel[0]


def inputs_of(model: SpeechLLM, samples: Tensor, sequence: Sequence, audio: int) -> dict[str, Tensor]:
    """Return one row as Voxtral's processor would make it; `audio` is the token that stands for audio."""
    whisper: Any = model.encoder
    adapter: Any = model.adapter
    width = whisper.whisper.config.max_source_positions // adapter.factor
    ids: list[int] = []
    labels: list[int] = []
    for piece in sequence:
        tokens = list(piece.token_ids) if isinstance(piece, TokenPiece) else [audio] * width
        ids += tokens
        labels += tokens if isinstance(piece, TokenPiece) and piece.supervised else [IGNORED] * len(tokens)
    return {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor(labels),
        "input_features": mel_of(model, samples),
    }


def collate(rows: Seq[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Pad rows to the longest."""
    ids = [row["input_ids"] for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(ids, batch_first=True),
        "attention_mask": pad([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad([row["labels"] for row in rows], batch_first=True, padding_value=IGNORED),
        "input_features": torch.stack([row["input_features"] for row in rows]),
    }


def run(spec: Spec) -> Turn:
    """Train by the Trainer."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    work, config = Workload.of(Spec(**{**vars(spec), "mode": FP32})), config_of(spec)
    audio = free_token(work.model, work.sequences)
    data = [
        inputs_of(work.model, work.audio[example.id], sequence, audio)
        for example, sequence in zip(work.examples, work.sequences, strict=True)
    ]
    peer = voxtral(work.model, audio)
    if spec.mode == BF16:
        peer = peer.to(torch.bfloat16)
    del work
    steps = Steps()

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers has no types that mypy may follow
        """Tells `steps` of each step."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            steps.begin(peer)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            steps.end(spec.batch, float("nan"))

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=spec.batch, max_steps=spec.steps + 1,
            learning_rate=config.train.learning_rate, adam_beta2=0.98, max_grad_norm=config.train.clip,
            bf16=spec.mode == "autocast", use_cpu=not torch.cuda.is_available(), save_strategy="no",
            report_to=[], disable_tqdm=True, logging_steps=1, logging_strategy="steps", seed=config.seed,
            remove_unused_columns=False, dataloader_pin_memory=False, dataloader_drop_last=True,
        )  # fmt: skip
        trainer = Trainer(model=peer, args=arguments, train_dataset=data, data_collator=collate, callbacks=[Clock()])
        trainer.train()
        turn = steps.turn()
        turn.losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
    return turn
