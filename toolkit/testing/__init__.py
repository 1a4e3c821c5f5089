"""The laws of the parts as tests, and tiny real models to run them on: for this project and for plugins."""

from toolkit.testing.decoder_laws import check_decoder
from toolkit.testing.frame_laws import check_adapter, check_encoder, check_lengths
from toolkit.testing.interleaver_laws import check_interleaver
from toolkit.testing.loss_laws import check_loss

__all__ = ["check_adapter", "check_decoder", "check_encoder", "check_interleaver", "check_lengths", "check_loss"]
