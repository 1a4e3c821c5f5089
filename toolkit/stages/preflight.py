"""What cannot be trained is refused before anything is loaded: parts that do not know each other's needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, DECODERS, ENCODERS, INTERLEAVERS, LOSSES, Decoder
from toolkit.models.speech_llm import check_cut, check_needs
from toolkit.stages.adopt import OWN
from toolkit.stages.engines import check_engine
from toolkit.stages.filters import check_filters
from toolkit.stages.machine import AUTO

DTYPES = ("", "fp32", "bf16", AUTO)


def check_training(config: Config) -> None:
    """Look at the parts of a training together; losses and interleavers are built, for they load nothing.

    Raises:
        ConfigError: a part does not have an option, or two choices contradict each other; both are named.
    """
    check_engine(config)
    ENCODERS.check(config.encoder)
    adapter, decoder = ADAPTERS.check(config.adapter), DECODERS.check(config.decoder)
    loss = LOSSES.build(config.loss)
    INTERLEAVERS.build(config.interleaver)
    check_cut(config.cut, adapter)
    check_needs(loss.needs, adapter)
    check_filters(config.imitate.filters)
    if config.train.decoder_dtype not in DTYPES:
        raise ConfigError(f"train.decoder_dtype is fp32, bf16, auto or empty, not '{config.train.decoder_dtype}'")
    if config.train.batch_tokens and config.train.micro_batch_size and not config.train.micro_batch_tokens:
        raise ConfigError(
            f"train.batch_tokens={config.train.batch_tokens} goes by positions, and train.micro_batch_size="
            f"{config.train.micro_batch_size} by rows: say train.micro_batch_tokens, or train.micro_batch_size=0"
        )
    if config.interleaver.get("learn_text") and "teacher" in loss.needs:
        raise ConfigError(
            f"interleaver.learn_text needs a loss without a teacher, not loss={config.loss['name']}, "
            "whose view has no text among speech"
        )
    if config.train.encoder != "frozen" and "units" in _encoders(config.encoder):
        raise ConfigError(
            f"encoder=units passes no gradient on, so train.encoder={config.train.encoder} would train nothing: say "
            "train.encoder=frozen"
        )
    if config.adapter.get("weights") == OWN and "model" not in config.encoder:
        raise ConfigError(
            f"adapter.weights={OWN}: encoder={config.encoder['name']} names no model of its own; name one"
        )
    frozen = decoder.trained is Decoder.trained
    if config.train.text_share == 1 and (frozen or config.decoder.get("audio_only")):
        who = "the decoder is frozen" if frozen else "decoder.audio_only acts where there is speech"
        raise ConfigError(f"train.text_share=1 leaves nothing to hear, and {who}: nothing would be learnt")


def _encoders(options: Mapping[str, Any]) -> set[str]:
    """Return the names of an encoder and of those in it."""
    inner = (_encoders(value) for value in options.values() if isinstance(value, Mapping) and "name" in value)
    return {options["name"]}.union(*inner)
