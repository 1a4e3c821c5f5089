from typing import Any

import pytest
import torch

from toolkit.adapters.pool_linear import PoolLinearAdapter
from toolkit.errors import ConfigError
from toolkit.testing import check_adapter
from toolkit.types import Padded


@pytest.mark.parametrize("options", [{}, {"norm": False}, {"factor": 5}, {"factor": 1}])
def test_the_law_holds(options: dict[str, Any]) -> None:
    check_adapter("pool_linear", **options)


def test_a_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    adapter = PoolLinearAdapter(3, 5)
    (adapter(Padded(torch.randn(2, 9, 3), torch.tensor([9, 4]))).values * torch.randn(5)).sum().backward()
    assert [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("norm", "count"),
    [(True, 5_249_536), (False, 5_246_976)],  # by hand: 1280 * 4096 + 4096, and 2 * 1280 of the norm
)
def test_parameters_at_the_published_size(norm: bool, count: int) -> None:
    with torch.device("meta"):
        adapter = PoolLinearAdapter(1280, 4096, norm=norm)
    assert sum(p.numel() for p in adapter.parameters()) == count


def test_a_mean_is_over_the_frames_that_are_there() -> None:
    adapter = PoolLinearAdapter(1, 1, norm=False)
    adapter.load_state_dict({"project.weight": torch.tensor([[10.0]]), "project.bias": torch.tensor([1.0])})
    frames = Padded(torch.tensor([[1.0, 2.0, 4.0], [6.0, 99.0, 99.0]])[..., None], torch.tensor([3, 1]))
    embeddings, times = adapter.timed(frames)
    assert [row.flatten().tolist() for row in embeddings.unpad()] == [[16.0, 41.0], [61.0]]
    assert times[0].tolist() == [0.5, 2.0]
    assert times[1, 0] == 0.0


def test_qwen2_audio_s_pooling_norm_and_projector_give_the_same() -> None:
    """An even number of frames: of an odd one Qwen2-Audio drops the last frame, and we keep it."""
    from transformers import Qwen2AudioConfig, Qwen2AudioModel

    torch.manual_seed(0)
    audio = {
        "d_model": 8, "encoder_ffn_dim": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
        "num_mel_bins": 4, "max_source_positions": 24,
    }  # fmt: skip
    text = {
        "model_type": "qwen2", "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 10,
    }  # fmt: skip
    theirs = Qwen2AudioModel(Qwen2AudioConfig(audio_config=audio, text_config=text)).eval()
    tower, linear = theirs.audio_tower, theirs.multi_modal_projector.linear
    for parameter in (*tower.layer_norm.parameters(), *linear.parameters()):
        torch.nn.init.normal_(parameter)
    ours = PoolLinearAdapter(8, 12)
    ours.norm.load_state_dict(tower.layer_norm.state_dict())
    ours.project.load_state_dict(linear.state_dict())
    frames: list[torch.Tensor] = []
    tower.avg_pooler.register_forward_pre_hook(lambda _, inputs: frames.append(inputs[0].transpose(1, 2)))
    with torch.no_grad():
        expected = theirs.multi_modal_projector(tower(torch.randn(2, 4, 48)).last_hidden_state)
        embeddings = ours(Padded(frames[0], torch.tensor([24, 24])))
        shorter = ours(Padded(frames[0][:, :16], torch.tensor([16, 7])))
    torch.testing.assert_close(embeddings.values, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(shorter.values[0], expected[0, :8], atol=1e-5, rtol=0)
    torch.testing.assert_close(shorter.values[1, :3], expected[1, :3], atol=1e-5, rtol=0)
    assert shorter.lengths.tolist() == [8, 4]


def test_no_frames_to_pool_is_refused() -> None:
    with pytest.raises(ConfigError, match="factor must be at least 1"):
        PoolLinearAdapter(3, 5, factor=0)
