import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

from toolkit.config import Config, compose_config

# No test may reach a hub or a network; two processes with one thread each are faster than with two.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

# No example is wrong because the machine was slow over it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

TEXTS = ["The quick brown fox jumps.", "What is the capital of France?", "She sells sea shells.", "My aunt speaks."]


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from toolkit.testing.tiny import tiny_llm

    return tiny_llm(tmp_path_factory.mktemp("models") / "llm")


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from toolkit.testing.tiny import tiny_whisper

    return tiny_whisper(tmp_path_factory.mktemp("models") / "whisper")


@pytest.fixture(scope="session")
def compiler() -> None:
    """What torch compiles with; without it the test is skipped."""
    from toolkit.errors import ConfigError
    from toolkit.stages.machine import check_compiler

    try:
        check_compiler()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def noise_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen noises with transcripts and word times, in the layout of egs/mini."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows = []
    (folder / "audio" / "v").mkdir(parents=True)
    for i in range(14):
        text, name, seconds = TEXTS[i % 4], f"utt{i:02d}", 1.0 + 0.1 * i
        noise = 0.1 * rng.standard_normal(int(16000 * seconds))
        soundfile.write(folder / "audio" / "v" / f"{name}.opus", noise, 16000, format="OGG", subtype="OPUS")
        words = text.split()
        share = seconds / len(words)
        times = [[word, round(k * share, 3), round((k + 1) * share, 3)] for k, word in enumerate(words)]
        split = "train" if i < 10 else "dev" if i < 12 else "test"
        rows.append(
            {"id": name, "voice": "v", "split": split, "kind": "statement", "text": text, "duration": seconds}
            | {"words": times}
        )
    (folder / "utterances.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def config_of(
    noise_corpus: Path, tiny_llm: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Config]:
    """Return a function (experiment folder, overrides...) -> configuration on prepared, encoded, answered noise."""
    from toolkit.stages import encode, imitate, prepare

    data = tmp_path_factory.mktemp("data")

    def make(exp: Path, *more: str) -> Config:
        return compose_config(
            [
                "recipes=mtbi",
                f"exp_dir={exp}",
                f"data_dir={data}",
                f"encoder.model={tiny_whisper}",
                "encoder.window=true_length",
                f"decoder.model={tiny_llm}",
                "adapter=stack",
                "adapter.hidden_dim=16",
                "prepare.format=jsonl",
                f"prepare.corpus={noise_corpus}",
                "prepare.splits={train:train,dev:dev,test:test}",
                "imitate.max_new_tokens=5",
                "train.steps=6",
                "train.batch_size=4",
                "train.validate_every=2",
                "train.speech_share=0.5",
                *more,
            ]
        )

    for stage in (prepare, encode, imitate):
        stage.run(make(data / "exp"))
    return make
