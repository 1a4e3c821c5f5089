"""Turns SmolLM2's GGUF file, whose weights are packed in 4 and 8 bits, into a Hugging Face folder, once.

Kept packed, the model runs at 2 tokens a second; unpacked, at more than 10. A packed weight is
`scale * integer + offset` with 16-bit scale and offset, which 16-bit floats cannot hold in general, so the
folder is in float32: the weights are exactly the file's, and the precision is chosen when they are loaded.
"""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path


def convert_smollm2(path: Path, folder: Path) -> None:
    """Write the model, its tokenizer and its chat template as an ordinary Hugging Face folder.

    Args:
        path: the GGUF file.
        folder: an existing, empty folder. Gets `model.safetensors` (float32), `config.json`,
            `generation_config.json`, `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`.
    """
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    with redirect_stderr(StringIO()):  # three bars of transformers' own; errors and log lines still get out
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        model.config.quantization_config = None  # or the folder would claim to be packed still
        model.save_pretrained(folder)
    _convert_tokenizer(path, folder)


def _convert_tokenizer(path: Path, folder: Path) -> None:
    """Write the tokenizer, cutting text as SmolLM2's own does.

    GGUF names that cut only by a word (`tokenizer.ggml.pre` is "smollm"), which transformers does not look
    at: it would keep the spaces before a digit with that digit, and so tokenise "a  2" otherwise than the
    model was trained on. SmolLM2 makes each digit a piece of its own first.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.model_max_length = AutoConfig.from_pretrained(folder).max_position_embeddings
    tokenizer.save_pretrained(folder)
