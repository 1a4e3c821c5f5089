"""The assembler: names in a configuration -> parts wired together, and what of them is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, DECODERS, ENCODERS, Adapter, Decoder, Encoder, TokenAdapter
from toolkit.models.encoder_training import EncoderTraining
from toolkit.models.speech_llm import SpeechLLM, check_cut


def best_device() -> torch.device:
    """Return where to run a model that is not being trained: the first accelerator there is, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_encoder(options: Mapping[str, Any]) -> Encoder:
    """Build a frozen encoder."""
    encoder = ENCODERS.build(options)
    encoder.requires_grad_(False)
    encoder.eval()
    return encoder


def build_decoder(options: Mapping[str, Any]) -> Decoder:
    """Build a decoder, frozen but for what it says is trained."""
    decoder = DECODERS.build(options)
    trained = decoder.trained()
    for name, parameter in decoder.named_parameters():
        parameter.requires_grad_(name in trained)
    decoder.eval()
    return decoder


def build_model(
    encoder: Mapping[str, Any],
    adapter: Mapping[str, Any],
    decoder: Mapping[str, Any],
    cut: str,
    seed: int,
    training: EncoderTraining = EncoderTraining(),  # noqa: B008 - it is frozen
) -> SpeechLLM:
    """Build the model: a trainable adapter between an encoder trained as `training` says and a decoder as it says.

    `seed` draws the weights that are new.

    Raises:
        ConfigError: a part does not have an option, or the adapter cannot be cut there; before anything is loaded.
    """
    ENCODERS.check(encoder)
    DECODERS.check(decoder)
    check_cut(cut, ADAPTERS.check(adapter))
    torch.manual_seed(seed)
    ears = build_encoder(encoder)
    with torch.random.fork_rng(devices=[]):  # what else is drawn is the same beside a frozen encoder
        torch.manual_seed(seed)
        training.apply(ears)
    mouth = build_decoder(decoder)
    torch.manual_seed(seed)  # again: the adapter is the same whatever stands beside it
    return SpeechLLM(ears, build_adapter(adapter, ears, mouth), mouth, cut)


def build_adapter(options: Mapping[str, Any], encoder: Encoder, decoder: Decoder) -> Adapter:
    """Build the adapter that fits between two parts."""
    return ADAPTERS.build(options, encoder.output_dim, decoder.embedding_dim)


def attach_tokens(model: SpeechLLM, token_ids: torch.Tensor) -> None:
    """Give a token adapter the tokens (K,) it may emit, with the decoder's embeddings of them.

    Raises:
        ConfigError: the decoder has no such token.
    """
    if not isinstance(model.adapter, TokenAdapter):
        return
    if len(token_ids) and int(token_ids.max()) >= model.decoder.vocabulary_size:
        raise ConfigError(
            f"token {int(token_ids.max())} is outside the decoder's vocabulary of {model.decoder.vocabulary_size}"
        )
    model.adapter.attach(token_ids, model.decoder.embed(token_ids))
