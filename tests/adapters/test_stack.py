from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toolkit.adapters.stack import StackAdapter
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS
from toolkit.registry import config_class
from toolkit.testing import check_adapter
from toolkit.types import Padded

SLAM_ASR: dict[str, Any] = {}
ULTRAVOX: dict[str, Any] = {"factor": 8, "activation": "swiglu", "bias": False, "norm": "mid"}
ULTRAVOX_0_4: dict[str, Any] = {**ULTRAVOX, "norm": "post"}
VOXTRAL: dict[str, Any] = {"factor": 4, "activation": "gelu", "bias": False, "hidden_dim": None}
FORMS = {"slam_asr": SLAM_ASR, "ultravox": ULTRAVOX, "ultravox_0_4": ULTRAVOX_0_4, "voxtral": VOXTRAL}

forms = pytest.mark.parametrize("options", FORMS.values(), ids=FORMS.keys())


@forms
def test_every_published_form_keeps_the_law(options: dict[str, Any]) -> None:
    check_adapter("stack", **options)


@forms
def test_a_gradient_reaches_every_parameter(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    adapter = StackAdapter(3, 5, **options)
    (adapter(Padded(torch.randn(2, 20, 3), torch.tensor([20, 7]))).values * torch.randn(5)).sum().backward()
    assert [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("dims", "options", "count"),
    [
        ((1024, 4096), SLAM_ASR, 18_880_512),  # published 18.88 M: WavLM-Large, Vicuna-7B
        ((1280, 4096), SLAM_ASR, 21_501_952),  # published 21.50 M: HuBERT-XL
        # The others by hand. Whisper-large-v3-turbo, Llama-3.1-8B:
        # 8*1280 + 8*1280 * 4096 + 2048 + 2048 * 4096
        ((1280, 4096), ULTRAVOX, 50_343_936),
        # Whisper-medium, Llama-3.1-8B: 8*1024 + 8*1024 * 4096 + 2048 * 4096 + 4096
        ((1024, 4096), ULTRAVOX_0_4, 41_955_328),
        # Whisper-large-v3, 3072 wide as in transformers' VoxtralConfig: 4*1280 * 3072 + 3072 * 3072
        ((1280, 3072), VOXTRAL, 25_165_824),
    ],
)
def test_parameters_at_published_sizes(dims: tuple[int, int], options: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        adapter = StackAdapter(*dims, **options)
    assert sum(p.numel() for p in adapter.parameters()) == count


def test_the_default_has_the_state_that_older_checkpoints_hold() -> None:
    state = StackAdapter(3, 5, factor=2, hidden_dim=4).state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == {
        "project.0.weight": [4, 6], "project.0.bias": [4], "project.2.weight": [5, 4], "project.2.bias": [5],
    }  # fmt: skip


def test_voxtral_s_projector_gives_the_same() -> None:
    from transformers import VoxtralConfig, VoxtralModel

    torch.manual_seed(0)
    audio = {
        "hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_mel_bins": 4, "max_source_positions": 24, "vocab_size": 10,
    }  # fmt: skip
    text = {
        "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": 10, "head_dim": 6,
    }  # fmt: skip
    theirs = VoxtralModel(VoxtralConfig(audio_config=audio, text_config=text, audio_token_id=3)).eval()
    ours = StackAdapter(8, 12, **VOXTRAL)
    projector = theirs.multi_modal_projector
    weights = (projector.linear_1.weight, projector.linear_2.weight)
    for parameter, weight in zip(ours.parameters(), weights, strict=True):
        weight.data.mul_(10)  # fresh weights are so small that any two outputs would agree
        parameter.data.copy_(weight.data)
    with torch.no_grad():
        outputs = theirs.get_audio_features(torch.randn(2, 4, 48))
        embeddings = ours(Padded(outputs.last_hidden_state, torch.tensor([24, 24])))
    assert embeddings.values.shape == (2, 6, 12)
    assert embeddings.values.abs().mean() > 0.01
    torch.testing.assert_close(embeddings.values.reshape(-1, 12), outputs.pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["mid", "post"])
def test_ultravox_s_projector_with_llama_s_norms_gives_the_same(norm: str) -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    torch.manual_seed(0)
    adapter = StackAdapter(3, 5, **{**ULTRAVOX, "hidden_dim": 6, "norm": norm})
    first, second = [layer for layer in adapter.project if isinstance(layer, nn.Linear)]
    norms = [LlamaRMSNorm(width, eps=1e-6) for width in (24, 6 if norm == "mid" else 5)]
    for layer in norms:
        layer.weight.data.fill_(0.4)
    frames = torch.randn(2, 13, 3)
    whole = torch.cat([frames, torch.zeros(2, 3, 3)], dim=1).reshape(2, 2, 24)

    def projector(x: Tensor) -> Tensor:
        wide = first(norms[0](x))
        value, gate = wide[..., :6], wide[..., 6:]
        gated = value * gate * torch.sigmoid(gate)
        mixed: Tensor = norms[1](second(gated)) if norm == "post" else second(norms[1](gated))
        return mixed

    embeddings = adapter(Padded(frames, torch.tensor([13, 13])))
    torch.testing.assert_close(embeddings.values, projector(whole), atol=1e-5, rtol=0)


def test_swiglu_gates_the_first_half_by_the_second() -> None:
    adapter = StackAdapter(1, 1, factor=2, hidden_dim=1, activation="swiglu", bias=False)
    adapter.load_state_dict({"project.0.weight": torch.eye(2), "project.2.weight": torch.tensor([[10.0]])})
    # 3 * silu(1) = 3 / (1 + e^-1) = 2.1932; a last frame alone is gated by a zero.
    embeddings = adapter(Padded(torch.tensor([[[3.0], [1.0], [5.0]]]), torch.tensor([3])))
    assert embeddings.values.flatten().tolist() == pytest.approx([21.932, 0.0], abs=1e-3)


def test_a_short_last_stack_is_filled_with_zeros() -> None:
    adapter = StackAdapter(1, 1, factor=2, hidden_dim=1)
    adapter.load_state_dict({
        "project.0.weight": torch.tensor([[1.0, 10.0]]), "project.0.bias": torch.tensor([0.5]),
        "project.2.weight": torch.tensor([[2.0]]), "project.2.bias": torch.tensor([-1.0]),
    })  # fmt: skip
    embeddings, times = adapter.timed(Padded(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([3])))
    assert embeddings.values.flatten().tolist() == [42.0, 6.0]  # 2 * (1 + 20 + 0.5) - 1 and 2 * (3 + 0.5) - 1
    assert times.tolist() == [[0.5, 2.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 0}, "factor must be at least 1"),
        ({"hidden_dim": 0}, "or null for the decoder's width, not 0"),
        ({"activation": "tanh"}, "one of relu, gelu, swiglu, not 'tanh'"),
        ({"norm": "layer"}, "'none', 'mid' or 'post', not 'layer'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StackAdapter(3, 5, **options)


def test_the_hidden_width_may_be_null_in_a_configuration() -> None:
    from omegaconf import OmegaConf

    schema = OmegaConf.structured(config_class("stack", ADAPTERS["stack"]))
    options = OmegaConf.merge(schema, OmegaConf.create("{factor: 4, hidden_dim: null, activation: gelu, bias: false}"))
    adapter = ADAPTERS.build(OmegaConf.to_container(options), 3, 7)  # type: ignore[arg-type]
    assert [list(p.shape) for p in adapter.parameters()] == [[7, 12], [7, 7]]
