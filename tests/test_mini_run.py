"""egs/mini/run.sh from the corpus to the scores, on a pocket-sized slice with tiny random models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModel, HubertConfig, Wav2Vec2FeatureExtractor

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mini")


def run_sh(work: Path, llm: Path, whisper: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run egs/mini/run.sh with everything it makes in `work`."""
    overrides = [
        f"data_dir={work}/data", f"encoder.model={whisper}", f"decoder.model={llm}", "decoder.dtype=fp32",
        "prepare.max_utterances=8", "imitate.max_new_tokens=6", "imitate.test_utterances=3",
        "imitate.dev_utterances=3", "imitate.tasks_per_cut=1",
        "train.max_minutes=0", "train.steps=3", "train.batch_size=4", "train.validate_every=2",
        "adapter.hidden_dim=32", "adapter.layers=1", "adapter.heads=4", "decode.systems=[speech,deaf]",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        str(ROOT / "egs/mini/run.sh"),
        "--exp",
        f"{work}/exp/mtbi",
        "--warm",
        f"{work}/exp/warm",
        *options,
    ]
    return subprocess.run([*command, *overrides], env=environment, capture_output=True, text=True, check=False)


def test_the_whole_recipe_runs_and_a_second_run_finds_everything_done(
    work: Path, tiny_llm: Path, tiny_whisper: Path
) -> None:
    first = run_sh(work, tiny_llm, tiny_whisper, "--stage", "1")
    assert first.returncode == 0, first.stderr
    scores = json.loads((work / "exp/mtbi/scores.json").read_text())
    assert {row["system"] for row in scores["scores"]} >= {"speech", "deaf", "text"}
    assert (work / "exp/mtbi/report.html").exists()
    weights = (work / "exp/mtbi/checkpoint/trainable.safetensors").read_bytes()
    again = run_sh(work, tiny_llm, tiny_whisper, "--stage", "4", "--stop-stage", "6")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("is trained") == 2
    assert "done" in again.stderr
    assert (work / "exp/mtbi/checkpoint/trainable.safetensors").read_bytes() == weights


def test_a_stage_reads_files_only(work: Path, tiny_llm: Path, tiny_whisper: Path) -> None:
    done = run_sh(work, tiny_llm, tiny_whisper, "--stage", "8")
    assert done.returncode == 0, done.stderr


def test_another_encoder_needs_nothing_of_the_corpus_but_its_speech(work: Path, tiny_llm: Path, tmp_path: Path) -> None:
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=8,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    before = set(work.glob("data/test/frames/*"))
    stages = run_sh(work, tiny_llm, tmp_path, "--stage", "3", "--stop-stage", "3", "encoder=ssl", "encoder.taps=[-1]")
    assert stages.returncode == 0, stages.stderr
    (made,) = set(work.glob("data/test/frames/*")) - before
    assert json.loads((made / "meta.json").read_text())["encoder"] == {
        "name": "ssl", "model": str(tmp_path), "taps": "[-1]"
    }  # fmt: skip


def test_an_unknown_option_is_refused(work: Path, tiny_llm: Path, tiny_whisper: Path) -> None:
    refused = run_sh(work, tiny_llm, tiny_whisper, "--stagee", "1")
    assert refused.returncode == 2
    assert "unknown option --stagee" in refused.stderr


def test_a_model_that_is_not_there_is_named(work: Path, tmp_path: Path, tiny_whisper: Path) -> None:
    refused = run_sh(work, tmp_path / "nothing", tiny_whisper, "--stage", "4", "--stop-stage", "4")
    assert refused.returncode == 2
    assert "nothing" in refused.stderr
    assert "Traceback" not in refused.stderr
