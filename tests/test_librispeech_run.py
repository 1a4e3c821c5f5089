"""The command of full size, with overrides and nothing else: tiny random models, a pocket of LibriSpeech's layout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"train-clean-100": 3, "train-clean-360": 2, "train-other-500": 2, "dev-clean": 2, "test-clean": 3}
"""part -> utterances"""
WORDS = ["SHE", "SELLS", "SEA", "SHELLS", "BY", "THE", "SHORE", "AND", "MY", "AUNT", "SPEAKS"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noises with transcripts and word times in all the parts that 960 hours have."""
    root, rng = tmp_path_factory.mktemp("LibriSpeech"), np.random.default_rng(0)
    for speaker, (part, count) in enumerate(PARTS.items(), start=1):
        chapter = root / part / str(speaker) / "1"
        chapter.mkdir(parents=True)
        transcripts, times = "", ""
        for i in range(count):
            name, words, seconds = f"{speaker}-1-{i:04d}", WORDS[i : i + 4 + i], 1.2 + 0.2 * i
            noise = rng.uniform(-0.3, 0.3, round(seconds * 16000)).astype(np.float32)
            soundfile.write(chapter / f"{name}.flac", noise, 16000)
            ends = [f"{(k + 1) * seconds / len(words):.3f}" for k in range(len(words))]
            transcripts += f"{name} {' '.join(words)}\n"
            times += f'{name} ",{",".join(words)}" "0.000,{",".join(ends)}"\n'
        (chapter / f"{speaker}-1.trans.txt").write_text(transcripts)
        (chapter / f"{speaker}-1.alignment.txt").write_text(times)
    return root


def test_the_full_size_command_runs_at_pocket_size(
    corpus: Path, tmp_path: Path, tiny_llm: Path, tiny_whisper: Path
) -> None:
    same = ["--conf", "librispeech/conf/full", "--recipe", "mtbi"]
    overrides = [
        f"data_dir={tmp_path}/data", f"encoder.model={tiny_whisper}", f"decoder.model={tiny_llm}",
        "align.source=given", "align.jobs=1", "imitate.max_new_tokens=5", "imitate.tasks_per_cut=1",
        "imitate.test_utterances=2", "adapter.hidden_dim=32", "adapter.layers=1", "adapter.heads=4",
        "train.steps=2", "train.batch_size=4", "train.micro_batch_size=2", "train.validate_every=2",
        "decode.systems=[speech,deaf]",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    exp = tmp_path / "exp"
    folders = ["--corpus", str(corpus), "--exp", str(exp / "mtbi"), "--warm", str(exp / "warm")]
    stages = ["--stage", "1", "--stop-stage", "8"]  # 0 fetches what is not needed here, 9 writes where the script is
    command = [str(ROOT / "egs/librispeech/run.sh"), *stages, *same, *folders, *overrides]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    scores = json.loads((exp / "mtbi/scores.json").read_text())
    assert {row["system"] for row in scores["scores"]} >= {"speech", "deaf", "text"}
    summary = json.loads((tmp_path / "data/train/summary.json").read_text())["counts"]
    assert (summary["utterances"], summary["with_word_times"]) == (7, 7)

    asked = ["recipes=mtbi", "egs=librispeech/conf/full", *overrides]
    told = subprocess.run(
        ["toolkit", "plan", "--json", *asked], env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    plan = json.loads(told.stdout)
    trained = sum(part["trained"] for part in plan["parts"])
    # Of the tokens of the transcripts nobody knew: each has a bias more.
    saved = load_file(exp / "mtbi/checkpoint/trainable.safetensors")
    assert trained == sum(t.numel() for name, t in saved.items() if t.is_floating_point() and name != "adapter.bias")
    assert plan["there"]["train"]["utterances"] == plan["work"]["examples"] == 7
