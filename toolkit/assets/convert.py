"""Which converter makes which folder; their imports are heavy and wait until one is called."""

from collections.abc import Mapping
from pathlib import Path

from toolkit.errors import AssetError


def convert(converter: str, sources: Mapping[str, Path], folder: Path) -> None:
    """Run a converter.

    Args:
        converter: its name in the catalogue.
        sources: the checked source files by the names that the catalogue gives them.
        folder: an existing, empty folder for the result.

    Raises:
        AssetError: there is no such converter, or the files are not what it reads.
    """
    if converter == "whisper":
        from toolkit.assets.ctranslate2 import convert_whisper

        convert_whisper(sources, folder)
    elif converter == "smollm2":
        from toolkit.assets.gguf import convert_smollm2

        convert_smollm2(sources["model.gguf"], folder)
    else:
        raise AssetError(f"the catalogue names a converter '{converter}' that does not exist")
