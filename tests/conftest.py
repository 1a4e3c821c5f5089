import os
from pathlib import Path

import pytest

# No test may reach a hub or a network; two processes with one thread each are faster than with two.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from toolkit.testing.tiny import tiny_llm

    return tiny_llm(tmp_path_factory.mktemp("models") / "llm")


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from toolkit.testing.tiny import tiny_whisper

    return tiny_whisper(tmp_path_factory.mktemp("models") / "whisper")
