"""Every recipe in recipes/, from its overlay to its scores on tiny models, and the table that is made of them."""

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from toolkit.config import KINDS, Config, compose_config, load_parts
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, DECODERS, LOSSES, TimedAdapter, TokenAdapter
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.compute import score
from toolkit.stages import decode, encode, imitate, train
from toolkit.stages.score import find_answers

ConfigOf = Callable[..., Config]
ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
NEW = {
    "alignformer", "asr_labelled", "audiochatllama", "blsp_emo", "blsp_kd", "desta2", "diva", "inserter", "ltu_as",
    "qwen_audio", "salmonn", "slam_asr", "ultravox", "wavllm",
}  # fmt: skip
TABLE: Any = runpy.run_path(str(ROOT / "tools/recipe_table.py"))

SHRUNK: dict[str, list[str]] = {
    "alignformer": ["hidden_dim=16", "layers=1", "query_layers=1", "heads=2"],
    "cif": ["layers_before=1", "layers_after=1", "heads=2"],
    "conv": ["bottleneck=8"],
    "ctc": ["hidden_dim=16", "layers=1", "heads=2"],
    "multilayer_qformer": ["taps=2", "queries=3", "hidden_dim=16", "heads=2", "feedforward_dim=16"],
    "pool_linear": [],
    "stack": ["hidden_dim=16"],
    "time_layer": ["taps=2", "layer_heads=2"],
    "whisper_decoder_qformer": ["queries=3", "layers=1"],
    "windowed_qformer": ["hidden_dim=16", "heads=2", "feedforward_dim=16"],
}
"""adapter -> what makes it small enough for a test, and fits an encoder of two layers"""


def said_by(recipe: str) -> dict[str, str]:
    """Return the parts that a recipe names, by kind."""
    own: dict[str, str] = TABLE["overlay"]((ROOT / f"recipes/{recipe}.yaml").read_text())[0]
    return own


def need_lora(recipe: str) -> None:
    load_parts()
    if said_by(recipe).get("decoder") == "lora" and "lora" not in DECODERS:
        pytest.skip("the lora decoder is not registered")


def test_all_baselines_are_there() -> None:
    assert set(RECIPES) >= NEW


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_composes_with_its_own_parts(recipe: str) -> None:
    need_lora(recipe)
    config = compose_config([f"recipes={recipe}", "exp_dir=x"])
    for kind, name in said_by(recipe).items():
        assert getattr(config, kind)["name"] == name
    assert config.cut == "frames" or issubclass(ADAPTERS[config.adapter["name"]], TimedAdapter)
    assert not config.train.anchor or issubclass(ADAPTERS[config.adapter["name"]], TokenAdapter)
    LOSSES.build(config.loss)


@pytest.mark.parametrize("recipe", sorted(NEW))
def test_a_recipe_keeps_its_parts_on_the_mini_corpus_with_what_the_table_adds(recipe: str) -> None:
    need_lora(recipe)
    read = TABLE["Recipe"].read(ROOT / f"recipes/{recipe}.yaml")
    alone = compose_config([f"recipes={recipe}", "exp_dir=x"])
    config = compose_config([f"recipes={recipe}", "egs=mini/conf/mini", "exp_dir=x", *read.packaged.split()])
    assert [getattr(config, kind)["name"] for kind in KINDS] == [getattr(alone, kind)["name"] for kind in KINDS]
    assert config.cut == alone.cut
    assert config.train.learning_rate == alone.train.learning_rate
    assert not config.train.anchor or issubclass(ADAPTERS[config.adapter["name"]], TokenAdapter)
    ADAPTERS.build(config.adapter, 384 * max(len(config.encoder["taps"]), 1), 576)


@pytest.mark.parametrize("recipe", sorted(NEW))
def test_a_header_tells_what_is_published_from_what_is_ours(recipe: str) -> None:
    text = (ROOT / f"recipes/{recipe}.yaml").read_text()
    header = text.split("defaults:")[0]
    assert "# As published" in header
    assert "ours" in header.lower()
    assert "arXiv" in header or "github" in header
    assert len(yaml.safe_load(text)) <= 8


@pytest.fixture(scope="module")
def corpus(config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A copy of the prepared noise, so that the recipes' own frames and answers stay in it."""
    folder = tmp_path_factory.mktemp("baselines")
    config = config_of(folder / "exp")
    shutil.copytree(config.data_dir, folder / "data")
    config.data_dir = str(folder / "data")
    return config


def config_for(recipe: str, corpus: Config, exp: Path) -> Config:
    """Compose a recipe on the tiny models."""
    recipe_only = compose_config([f"recipes={recipe}", "exp_dir=x"])
    sizes = [f"adapter.{size}" for size in SHRUNK[recipe_only.adapter["name"]]]
    if recipe_only.encoder["taps"]:
        sizes.append("encoder.taps=[0,1]")
    return compose_config(
        [
            f"recipes={recipe}",
            f"exp_dir={exp}",
            f"data_dir={corpus.data_dir}",
            f"encoder.model={corpus.encoder['model']}",
            "encoder.window=true_length",
            f"decoder.model={corpus.decoder['model']}",
            "imitate.max_new_tokens=5",
            "train.steps=2",
            "train.batch_size=4",
            "train.validate_every=2",
            "train.validation_utterances=4",
            "decode.systems=[speech,cascade]",
            *sizes,
        ]
    )


@pytest.mark.parametrize("recipe", sorted({*RECIPES} - {"cascade"}))
def test_a_recipe_trains_answers_and_is_scored(recipe: str, corpus: Config, tmp_path: Path) -> None:
    need_lora(recipe)
    config = config_for(recipe, corpus, tmp_path)
    if config.encoder["taps"]:
        encode.run(config)
    imitate.run(config)
    train.run(config)
    log = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "parts" in row] == [1, 2]
    trained = load_file(tmp_path / "checkpoint/trainable.safetensors")
    assert any(name.startswith("adapter.") for name in trained)
    assert any(".lora_" in name for name in trained) == (config.decoder["name"] == "lora")
    files = find_answers(decode.run(config)[0].parent)
    # As the score stage does; without its report, whose curves take longer to draw than all the rest.
    card = score(files, normaliser_name="english", resampling=Resampling(10), examples=0, metadata={})
    assert {"speech", "cascade", "text"} <= {row.system for row in card.scores}


def test_the_cascade_trains_nothing_and_hears_by_the_recogniser(corpus: Config, tmp_path: Path) -> None:
    parts = [f"encoder.model={corpus.encoder['model']}", f"decoder.model={corpus.decoder['model']}"]
    data = [f"exp_dir={tmp_path}", f"data_dir={corpus.data_dir}", "imitate.max_new_tokens=5"]
    config = compose_config(["recipes=cascade", *parts, *data])
    assert "train" not in imitate.run(config)
    assert encode.run(config) == {}
    train.run(config)
    assert list(tmp_path.iterdir()) == []
    files = find_answers(decode.run(config)[0].parent)
    beside = compose_config(["recipes=mtbi", *parts, *data, "train.steps=1", "decode.systems=[speech,cascade]"])
    beside.exp_dir = str(tmp_path / "mtbi")
    encode.run(beside)
    train.run(beside)
    other = find_answers(decode.run(beside)[0].parent)
    assert "cascade" not in files
    assert files["speech"].read_text() == other["cascade"].read_text()
    assert files["deaf"].read_text() != files["speech"].read_text()
    card = score(files, normaliser_name="english", resampling=Resampling(10), examples=0, metadata={})
    assert {row.system for row in card.scores} >= {"speech", "deaf", "text"}


def test_who_hears_is_checked_first(config_of: ConfigOf, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decode\.hears is one of model, recogniser, not 'nobody'"):
        decode.run(config_of(tmp_path, "decode.hears=nobody"))


def test_an_adapter_without_times_says_which_cut_it_needs(corpus: Config, tmp_path: Path) -> None:
    config = config_for("diva", corpus, tmp_path)
    config.cut = "embeddings"
    imitate.run(config)
    with pytest.raises(ConfigError, match="use cut=frames"):
        train.run(config)


@pytest.mark.parametrize(
    ("recipe", "layers", "width", "published"),
    [("slam_asr", 1, 1024, 18.88), ("slam_asr", 1, 1280, 21.50), ("ltu_as", 32, 1280, 48.8)],
)
def test_published_sizes_give_the_published_number_of_parameters(
    recipe: str, layers: int, width: int, published: float
) -> None:
    options = TABLE["Recipe"].read(ROOT / f"recipes/{recipe}.yaml").options
    with torch.device("meta"):
        adapter = ADAPTERS.build({"name": said_by(recipe)["adapter"], **options["adapter"]}, layers * width, 4096)
    lora = 32 * options["decoder"].get("rank", 0) * len(options["decoder"].get("targets", [])) * 2 * 4096
    trained = (sum(p.numel() for p in adapter.parameters()) + lora) / 1e6
    assert trained == pytest.approx(published, abs=0.05)


def test_the_table_in_the_readme_is_up_to_date_and_a_stale_one_is_seen() -> None:
    page = (ROOT / "recipes/README.md").read_text()
    assert TABLE["renewed"](page) == page, "run python tools/recipe_table.py"
    assert TABLE["renewed"](page.replace("`slam_asr`", "`spam_asr`")) == page
    assert all(f"| `{recipe}` |" in page for recipe in RECIPES)
