"""Small suites in the formats of the real ones: every row and every recording is made here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from toolkit.config import Config
from toolkit.stages import train


def noise(path: Path, seconds: float = 0.5, seed: int = 0, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(round(rate * seconds)), rate)
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def exp(config_of: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an experiment with a trained tiny model."""
    config = config_of(tmp_path_factory.mktemp("suites") / "exp", "train.steps=2")
    train.run(config)
    return Path(config.exp_dir)


@pytest.fixture
def speech_ifeval(tmp_path: Path) -> Path:
    """Return a folder in the layout of Speech-IFEval, with three of its kinds of items and a judged one."""
    folder = tmp_path / "speech-ifeval"
    for number in range(3):
        noise(folder / "audios" / "Asr" / f"{number}.wav", 0.4 + 0.2 * number, number)
    base = {"textual_audio": "unused", "dataset": "Asr"}
    closed = [
        base | {
            "id": 0, "audio_filepath": "Asr/0.wav", "metric": "wer", "label": "THE KETTLE IS ON",
            "instruction": "Write down what is said.\nIn small letters only.",
            "instruction_id_list": ["change_case:english_lowercase"], "kwargs": [{}],
        },
        base | {
            "id": 1, "audio_filepath": "Asr/1.wav", "metric": "accuracy", "label": "Cat", "dataset": "Animals",
            "instruction": 'Which animal is it? Choose the answer from "Cat" or "Dog"\nIn quotation marks.',
            "instruction_id_list": ["startend:quotation"], "kwargs": [{}],
        },
    ]  # fmt: skip
    creative = [
        base | {
            "id": 2, "key": "words-0", "audio_filepath": "Asr/2.wav", "metric": "open",
            "instruction": "Write a poem {speech} with {braces} about it, of at least 5 words.",
            "instruction_id_list": ["length_constraints:number_words"],
            "kwargs": [{"relation": "at least", "num_words": 5}],
        }
    ]  # fmt: skip
    thought = [base | {"audio_filepath": "Asr/0.wav", "metric": "cot", "instruction": "Why?\nStep by step."}]
    write_lines(folder / "eval_data" / "closed_ended_questions.jsonl", closed)
    write_lines(folder / "eval_data" / "creative_writing.jsonl", creative)
    write_lines(folder / "eval_data" / "chain-of-thought.jsonl", thought)
    return folder


@pytest.fixture
def voicebench(tmp_path: Path) -> Path:
    """Return a folder in the layout of hlt-lab/voicebench, as JSON lines with audio beside them."""
    folder = tmp_path / "voicebench"
    rows: dict[str, list[dict[str, Any]]] = {
        "ifeval": [
            {
                "key": 1, "prompt": "Answer without a comma, and mention tea.",
                "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
                "kwargs": [{"keywords": None, "num_words": None}, {"keywords": ["tea"], "num_words": None}],
            }
        ],
        "openbookqa": [{"prompt": "Where do frogs live? A. In a pond ...", "reference": "A"}],
        "mmsu": [{"question_id": 7, "category": "law", "prompt": "Who makes laws? ...", "reference": "C"}],
        "bbh": [
            {"id": "made_up_navigate_1", "prompt": "Are you back?", "reference": "No"},
            {"id": "made_up_hyperbaton_1", "prompt": "Which order?", "reference": "(B)"},
        ],
        "advbench": [{"prompt": "Tell me how to do something bad."}],
        "alpacaeval": [{"prompt": "What is tea?"}],
    }  # fmt: skip
    for part, made in rows.items():
        for number, row in enumerate(made):
            noise(folder / part / "audio" / f"{number}.wav", 0.4, number)
            row["audio"] = {"path": f"audio/{number}.wav"}
        write_lines(folder / part / "test.jsonl", made)
    return folder


@pytest.fixture
def dynamic_superb(tmp_path: Path) -> Path:
    """Return a folder in the layout of Dynamic-SUPERB, phase 1: two tasks, one of them about pairs."""
    folder = tmp_path / "dynamic-superb"
    one, two = folder / "ToneDetection_Toy" / "test", folder / "SpeakerVerification_Toy" / "test"
    for number, label in enumerate(("rising", "falling", "rising")):
        noise(one / f"{number}.wav", 0.4, number)
        rows = json.loads((one / "metadata.json").read_text()) if number else {}
        rows[f"{number}.wav"] = {
            "instruction": "Does the tone rise or fall? The answer could be rising or falling.", "label": label,
        }  # fmt: skip
        (one / "metadata.json").write_text(json.dumps(rows))
    noise(two / "a.wav", 0.4, 7)
    noise(two / "a_pair.wav", 0.5, 8)
    row = {"instruction": "One speaker?", "text": "tea", "label": "yes", "file2": "elsewhere/b.wav"}
    (two / "metadata.json").write_text(json.dumps({"a.wav": row}))
    noise(folder / "ToneDetection_Toy" / "train" / "0.wav", 0.4)
    return folder
