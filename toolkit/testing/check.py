"""The laws of one registered part, looked at by name: what `toolkit check` runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.encoders.whisper import WhisperEncoder
from toolkit.errors import ConfigError, unknown_name
from toolkit.interfaces import REGISTRIES
from toolkit.registry import config_class, keyword_parameters
from toolkit.testing.decoder_laws import check_decoder
from toolkit.testing.frame_laws import check_adapter, check_encoder
from toolkit.testing.interleaver_laws import check_interleaver
from toolkit.testing.laws import recorded
from toolkit.testing.loss_laws import check_loss
from toolkit.testing.tiny import tiny_llm, tiny_whisper

CHECKS: dict[str, Callable[..., None]] = {
    "encoder": check_encoder,
    "adapter": check_adapter,
    "decoder": check_decoder,
    "interleaver": check_interleaver,
    "loss": check_loss,
}
STAND_INS: dict[type, Callable[[Path], Path]] = {CausalLMDecoder: tiny_llm, WhisperEncoder: tiny_whisper}
"""parts that load a `model` -> what writes a tiny one that they can load"""


def find_kind(name: str, kind: str | None = None) -> str:
    """Return the kind of the part that is called `name`.

    Args:
        name: of the part.
        kind: needed where parts of several kinds have the name.

    Raises:
        ConfigError: nobody has the name, or several have and `kind` does not say which.
    """
    if kind is not None and kind not in REGISTRIES:
        raise unknown_name("kind", kind, list(REGISTRIES))
    kinds = [k for k, registry in REGISTRIES.items() if name in registry and kind in (None, k)]
    if not kinds:
        known = [n for k, registry in REGISTRIES.items() if kind in (None, k) for n in registry]
        raise unknown_name(kind or "part", name, sorted(set(known)))
    if len(kinds) > 1:
        choices = " or ".join(f"`toolkit check {name} {k}`" for k in kinds)
        raise ConfigError(f"'{name}' is the name of several parts; say which: {choices}")
    return kinds[0]


def read_options(kind: str, name: str, overrides: list[str]) -> dict[str, Any]:
    """Read `KIND.KEY=VALUE` as Hydra does, with the types of the part.

    Raises:
        ConfigError: not of this form, a key that the part does not have, or a value of another type.
    """
    schema = OmegaConf.structured(config_class(name, REGISTRIES[kind][name]))
    keys = []
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise ConfigError(f"cannot read '{text}': an option is {kind}.KEY=VALUE. {error}") from error
        group, _, key = override.key_or_group.partition(".")
        if group != kind or not key:
            raise ConfigError(f"cannot use '{text}': options of this part are {kind}.KEY=VALUE")
        try:
            OmegaConf.update(schema, key, override.value())
        except OmegaConfBaseException as error:
            raise ConfigError(f"cannot use '{text}': {str(error).splitlines()[0]}") from error
        keys.append(key.split(".")[0])
    plain = OmegaConf.to_container(schema)
    assert isinstance(plain, dict)
    return {key: plain[key] for key in keys}


def check_part(kind: str, name: str, options: dict[str, Any], tell: Callable[[str, bool], None]) -> bool:
    """Check the law of a part and tell, for each law that was looked at, whether it holds.

    A law that breaks ends the check, so it is the only one told as broken. Where a `model` is needed and none is
    given, a tiny random one stands in, if there is one that fits. Errors of the part itself pass through.

    Returns:
        Whether all laws hold.
    """
    cls: type = REGISTRIES[kind][name]
    with TemporaryDirectory() as folder, recorded() as laws:
        if "model" in keyword_parameters(cls) and "model" not in options:
            for base, write in STAND_INS.items():
                if issubclass(cls, base):
                    options = {**options, "model": str(write(Path(folder) / "model"))}
        try:
            CHECKS[kind](name, **options)
        except AssertionError:
            if all(laws.values()):  # an assertion of the part's own
                raise
        finally:
            for law, holds in laws.items():
                tell(law, holds)
    return all(laws.values())
