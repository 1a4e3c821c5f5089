"""The laws of the parts as tests, and tiny real models to run them on: for this project and for plugins."""

from toolkit.testing.contracts import (
    check_adapter,
    check_decoder,
    check_encoder,
    check_interleaver,
    check_loss,
)

__all__ = ["check_adapter", "check_decoder", "check_encoder", "check_interleaver", "check_loss"]
