"""Every recipe composes and builds at full size: Whisper large-v3 and LLMs of seven and eight billion parameters."""

from pathlib import Path

import pytest

from toolkit.config import compose_config
from toolkit.plan.plan import Question, make_plan

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
LARGE = {
    "desta2": [
        "encoder.taps=[7,15,23,31]", "adapter.layers=6", "adapter.hidden_dim=1280", "adapter.heads=20",
        "adapter.feedforward_dim=5120",
    ],
}  # fmt: skip
"""what a recipe needs to fit large-v3; egs/librispeech/README.md says the same"""


@pytest.mark.parametrize("decoder", ["Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_fits_large_models(recipe: str, decoder: str) -> None:
    asked = [f"recipes={recipe}", "egs=librispeech/conf/full", "exp_dir=x", f"decoder.model={decoder}"]
    plan = make_plan(compose_config([*asked, *LARGE.get(recipe, [])]), Question(gpus=8))
    encoder, adapter, llm = plan.parts
    assert encoder.trained + encoder.frozen == pytest.approx(636_968_960, rel=1e-3)
    assert llm.frozen == {"Q": 7_615_616_512, "m": 8_030_261_248}[decoder[0]]
    assert adapter.trained > 1_000_000
    assert (llm.trained > 0) == (recipe in ("ltu_as", "salmonn", "wavllm"))
    assert plan.rows.rate > 0
    assert set(plan.memory) >= {"imitate", "decode"} or recipe == "warm_start"
    assert ("train" in plan.memory) == (recipe != "cascade")


@pytest.mark.parametrize("recipe", LARGE)
def test_the_page_says_what_a_recipe_needs_there(recipe: str) -> None:
    page = (ROOT / "egs/librispeech/README.md").read_text()
    assert f"`{' '.join(LARGE[recipe])}`" in page
