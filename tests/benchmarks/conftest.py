from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.workload import Spec, folder
from toolkit.config import Config


@pytest.fixture(scope="session")
def tiny_overrides(tiny_llm: Path, tiny_whisper: Path) -> tuple[str, ...]:
    """The tiny models, whose Whisper has twice the width between its layers: Voxtral stacks two of its frames."""
    return (
        f"encoder.model={tiny_whisper}", f"decoder.model={tiny_llm}", "adapter.factor=2", "imitate.max_new_tokens=5",
        "train.learning_rate=1e-3",
    )  # fmt: skip


@pytest.fixture(scope="session")
def source(config_of: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared, encoded and answered noise, as egs/mini's data folder is."""
    return Path(config_of(tmp_path_factory.mktemp("exp")).data_dir)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def spec(source: Path, work: Path, tiny_overrides: tuple[str, ...]) -> Spec:
    return Spec(str(folder(source, work, 6, tiny_overrides)), batch=4, steps=2, overrides=tiny_overrides)
