import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

from toolkit.config import compose_config
from toolkit.encoders.ssl import SSLEncoder
from toolkit.errors import ConfigError
from toolkit.interfaces import ENCODERS
from toolkit.testing import check_encoder
from toolkit.types import Padded

# WavLM's position bias is float and its mask is not, which torch is going to mind: that is in transformers.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

BLOCKS = 3
Make = Callable[..., str]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function (family, norm, normalise, more...) -> folder of a tiny random model of that family."""
    folder = tmp_path_factory.mktemp("ssl")

    def build(family: str, norm: str, normalise: bool = True, **more: Any) -> str:
        place = folder / "-".join([family, norm, str(normalise), *more])
        if not place.exists():
            torch.manual_seed(0)
            config = AutoConfig.for_model(
                family, hidden_size=16, num_hidden_layers=BLOCKS, num_attention_heads=2, intermediate_size=32,
                conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=8,
                feat_extract_norm=norm, do_stable_layer_norm=norm == "layer", conv_bias=norm == "layer",
                initializer_range=0.2, **more,
            )  # fmt: skip
            AutoModel.from_config(config).save_pretrained(place)
            Wav2Vec2FeatureExtractor(do_normalize=normalise, return_attention_mask=True).save_pretrained(place)
        return str(place)

    return build


def noise(samples: int) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples)) + 0.05


FAMILIES = pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
NORMS = pytest.mark.parametrize("norm", ["group", "layer"])


@FAMILIES
@NORMS
def test_ssl_keeps_its_law(make: Make, family: str, norm: str) -> None:
    check_encoder("ssl", model=make(family, norm))
    check_encoder("ssl", model=make(family, norm), taps=[0, 2, BLOCKS])


def test_batch_norm_before_the_positions_keeps_the_law(make: Make) -> None:
    check_encoder("ssl", model=make("hubert", "layer", conv_pos_batch_norm=True))


@FAMILIES
@NORMS
@pytest.mark.parametrize("normalise", [True, False])
def test_each_row_is_what_transformers_makes_of_it_alone(make: Make, family: str, norm: str, normalise: bool) -> None:
    folder = make(family, norm, normalise)
    encoder = ENCODERS.build({"name": "ssl", "model": folder}).eval()
    tapped = ENCODERS.build({"name": "ssl", "model": folder, "taps": [2, 0, BLOCKS]}).eval()
    model, extract = AutoModel.from_pretrained(folder).eval(), Wav2Vec2FeatureExtractor.from_pretrained(folder)
    rows = [noise(n) for n in (6000, 16000, 6000, 9123)]
    with torch.no_grad():
        ours, taps = encoder(Padded.of(rows)).unpad(), tapped(Padded.of(rows)).unpad()
        for row, frames, several in zip(rows, ours, taps, strict=True):
            values = extract(row.numpy(), sampling_rate=16000, return_tensors="pt").input_values
            theirs = model(values, output_hidden_states=True)
            torch.testing.assert_close(frames, theirs.last_hidden_state[0], atol=1e-5, rtol=1e-4)
            states = torch.cat([theirs.hidden_states[k][0] for k in (2, 0, BLOCKS)], dim=-1)
            torch.testing.assert_close(several, states, atol=1e-5, rtol=1e-4)
    assert tapped.output_dim == 3 * encoder.output_dim == 48


@NORMS
def test_taps_stand_before_the_final_norm(make: Make, norm: str) -> None:
    folder = make("wavlm", norm)
    last = ENCODERS.build({"name": "ssl", "model": folder}).eval()
    tap: Any = ENCODERS.build({"name": "ssl", "model": folder, "taps": [BLOCKS]}).eval()
    audio = Padded.of([noise(4000)])
    with torch.no_grad():
        wanted, got = last(audio).values, tap(audio).values
        if norm == "layer":  # only these models end in a norm
            assert not torch.allclose(got, wanted, atol=1e-2)
            got = tap.ssl.encoder.layer_norm(got)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@NORMS
def test_lengths_are_exact_from_one_sample_on(make: Make, norm: str) -> None:
    encoder: Any = ENCODERS.build({"name": "ssl", "model": make("wav2vec2", norm)}).eval()
    assert encoder.shortest == 400
    assert encoder.frame_shift == 0.02
    all_lengths = torch.arange(400, 16000)
    theirs = encoder.ssl._get_feat_extract_output_lengths(all_lengths)
    assert torch.equal(encoder.output_lengths(all_lengths), theirs)
    few = [1, 2, 399, 400, 401, 719, 720, 3000]
    with torch.no_grad():
        frames = encoder(Padded.of([noise(n) for n in few]))
    assert frames.lengths.tolist() == encoder.output_lengths(torch.tensor(few)).tolist() == [1, 1, 1, 1, 1, 1, 2, 9]
    assert bool(torch.isfinite(frames.zeroed()).all())


class Unmindful(SSLEncoder):
    """Batches rows of any length, as the mask that transformers takes invites one to."""

    def __init__(self, *, model: str) -> None:
        super().__init__(model=model)
        self.equal_lengths = False


@FAMILIES
def test_group_norm_batched_with_padding_is_caught_by_name(
    make: Make, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS._classes, "unmindful", Unmindful)
    with pytest.raises(AssertionError, match="'unmindful' breaks the law: a row does not depend on its neighbours"):
        check_encoder("unmindful", model=make(family, "group"))
    check_encoder("unmindful", model=make(family, "layer"))


class Unmasked(SSLEncoder):
    """Lets attention see the padding."""

    def _encode(self, audio: Padded) -> Padded:
        frames = self.ssl(audio.values).last_hidden_state
        return Padded(frames, self.output_lengths(audio.lengths))


def test_a_missing_mask_is_caught_by_name(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS._classes, "unmasked", Unmasked)
    with pytest.raises(AssertionError, match="'unmasked' breaks the law: a row does not depend on its neighbours"):
        check_encoder("unmasked", model=make("wavlm", "layer"))


def test_rows_of_one_length_run_together(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SSLEncoder(model=make("hubert", "group")).eval()
    sizes = []
    run = encoder._encode

    def noted(audio: Padded) -> Padded:
        sizes.append(tuple(audio.values.shape))
        return run(audio)

    monkeypatch.setattr(encoder, "_encode", noted)
    encoder(Padded.of([noise(n) for n in (2000, 3000, 2000)]))
    assert sizes == [(2, 2000), (1, 3000)]


def test_other_models_are_refused(tiny_whisper: Path) -> None:
    with pytest.raises(ConfigError, match=r"hubert, wav2vec2, wavlm; .* is 'whisper'"):
        SSLEncoder(model=str(tiny_whisper))


def test_a_model_with_strides_of_its_own_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="add_adapter"):
        SSLEncoder(model=make("wav2vec2", "layer", add_adapter=True))


def test_taps_outside_the_model_are_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"has 3 layers, are 0 to 3 or, from the last, -1 to -4; not \[-5, 4\]"):
        SSLEncoder(model=make("wavlm", "group"), taps=(-5, -1, 1, 4))


def test_negative_taps_count_from_the_last(make: Make) -> None:
    folder, audio = make("hubert", "layer"), Padded.of([noise(4000)])
    relative, absolute = (SSLEncoder(model=folder, taps=taps).eval() for taps in ((-1, -2, -4), (BLOCKS, 2, 0)))
    with torch.no_grad():
        assert torch.equal(relative(audio).values, absolute(audio).values)


def test_a_folder_without_preprocessing_is_refused(make: Make, tmp_path: Path) -> None:
    source = Path(make("wavlm", "group"))
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    with pytest.raises(ConfigError, match=r"no readable preprocessor_config\.json"):
        SSLEncoder(model=str(tmp_path))


def test_missing_weights_are_refused(make: Make, tmp_path: Path) -> None:
    source = Path(make("wavlm", "group"))
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": BLOCKS + 1}))
    with pytest.raises(ConfigError, match=r"lacks weights, such as encoder\.layers\.3"):
        SSLEncoder(model=str(tmp_path))


def test_the_row_is_normalised_over_its_own_samples(make: Make) -> None:
    encoder = SSLEncoder(model=make("wavlm", "layer"))
    row = encoder._prepare(noise(3000)).numpy()
    theirs = Wav2Vec2FeatureExtractor(do_normalize=True)(noise(3000).numpy(), sampling_rate=16000).input_values[0]
    np.testing.assert_allclose(row, theirs, atol=1e-5)


def test_taps_come_from_the_command_line() -> None:
    config = compose_config(["encoder=ssl", "encoder.model=somewhere", "encoder.taps=[0,1,2]"])
    assert config.encoder == {"name": "ssl", "model": "somewhere", "taps": [0, 1, 2]}
