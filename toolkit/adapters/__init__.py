"""Adapters: encoder frames -> embeddings of the decoder, one row for a span of speech."""

from toolkit.adapters import (
    alignformer,
    cif,
    conv,
    ctc,
    ctc_compress,
    multilayer_qformer,
    pool_linear,
    qformer,
    stack,
    time_layer,
    whisper_decoder_qformer,
    windowed_qformer,
)

__all__ = [
    "alignformer",
    "cif",
    "conv",
    "ctc",
    "ctc_compress",
    "multilayer_qformer",
    "pool_linear",
    "qformer",
    "stack",
    "time_layer",
    "whisper_decoder_qformer",
    "windowed_qformer",
]
