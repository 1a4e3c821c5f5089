"""A causal language model with LoRA (arXiv 2106.09685) by peft: the LLM stays, small matrices beside it are trained.

Published settings, rank / alpha / dropout / targets: SALMONN (2310.13289) 8 / 32 / 0.1 / peft's for the model;
WavLLM (2404.00656) 8 / 32 / 0.1 / q k v o; LTU-AS (2309.14405) 8 / 16 / 0.05 / q v; SLAM-ASR (2402.08846)
8 / 32 / - / q v; BLSP-Emo (2406.03872) 16 / 16 / 0.05 / c_attn c_proj w1 w2 of Qwen, on audio positions alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.decoders.causal_lm import DTYPES, CausalLMDecoder
from toolkit.errors import ConfigError, check_names
from toolkit.interfaces import DECODERS
from toolkit.types import Outputs


@DECODERS.register("lora")
class LoRADecoder(CausalLMDecoder):
    """Runs `model` in `dtype` as causal_lm does, with trained LoRA in fp32 on the linear layers named in `targets`.

    `audio_only` lets LoRA act where a row is speech and nowhere else, as in BLSP-Emo. `quantise` holds the frozen
    weights in `nf4` (QLoRA, arXiv 2305.14314) or `int8` and computes in `dtype`: another text LLM than the unquantised
    one, with answers of its own. Defaults are SALMONN's, with peft's targets for Llama.
    """

    def __init__(
        self,
        *,
        model: str,
        dtype: str = "fp32",
        rank: int = 8,
        alpha: int = 32,
        dropout: float = 0.1,
        targets: list[str] = ["q_proj", "v_proj"],  # noqa: B006 - the schema copies it
        audio_only: bool = False,
        quantise: str = "",
    ) -> None:
        if rank < 1 or not 0 <= dropout < 1 or not targets:
            raise ConfigError("decoder=lora needs decoder.rank of at least 1, dropout in [0, 1) and some targets")
        super().__init__(_quantisation(quantise, dtype), model=model, dtype=dtype)
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=self._linear(targets))
        inject_adapter_in_model(config, self.lm)
        self.layers: list[Any] = [module for module in self.lm.modules() if isinstance(module, LoraLayer)]
        self.audio_only = audio_only
        self.opens_once = audio_only
        self._audio: Tensor | None = None
        trained = self.trained()
        for name, parameter in self.named_parameters():
            if name in trained:
                parameter.data = parameter.data.float()
        for layer in self.layers if audio_only else ():
            for up in layer.lora_B.values():
                up.register_forward_hook(self._keep_audio)
        self.train(False)

    def train(self, mode: bool = True) -> LoRADecoder:
        """Switch the dropout of LoRA alone; what is frozen stays in evaluation mode."""
        super().train(mode)
        for layer in self.layers:
            layer.lora_dropout.train(mode)
        return self

    def trained(self) -> frozenset[str]:
        """Return the names of LoRA's matrices."""
        return frozenset(name for name, _ in self.named_parameters() if ".lora_" in name)

    def frozen_state(self) -> dict[str, Tensor]:
        """Return the tensors of the LLM by the names that they have without LoRA, so that its mark is the LLM's."""
        return {name.replace(".base_layer.", "."): tensor for name, tensor in super().frozen_state().items()}

    @contextmanager
    def as_text_llm(self) -> Iterator[None]:
        """Switch LoRA off inside a `with`; entered again inside itself it stays off until the outer one ends."""
        on = [layer for layer in self.layers if not layer.disable_adapters]
        for layer in on:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in on:
                layer.enable_adapters(True)

    def outputs(
        self,
        sequences: Seq[Tensor],
        positions: Seq[Tensor],
        prefixes: Seq[tuple[int, ...]] = (),
        audio: Seq[Tensor] = (),
    ) -> Outputs:
        """Run like causal_lm; a prefix that LoRA acts on and learns from is not run once without a gradient."""
        learns = torch.is_grad_enabled() and not self.audio_only
        return super().outputs(sequences, positions, () if learns else prefixes, audio)

    def _run(
        self, embeddings: Tensor, mask: Tensor, positions: Tensor, audio: Tensor | None = None, **cache: Any
    ) -> Any:
        if self.audio_only and audio is None:  # a prefix, or words being generated
            with self.as_text_llm():
                return super()._run(embeddings, mask, positions, **cache)
        self._audio = audio
        try:
            return super()._run(embeddings, mask, positions, audio, **cache)
        finally:
            self._audio = None

    def _keep_audio(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Take away what LoRA adds (B, N, width) where the row is text."""
        assert self._audio is not None
        return output.masked_fill(~self._audio.reshape(*output.shape[:-1], 1), 0)

    def _linear(self, targets: Seq[str]) -> list[str]:
        """Return the full names of the linear layers that end in one of `targets`; the head over words is none."""
        head = self.lm.get_output_embeddings()
        names = [name for name, m in self.lm.named_modules() if isinstance(m, nn.Linear) and m is not head]
        known = {name.rpartition(".")[2] for name in names}
        check_names("entry of decoder.targets", targets, known)
        return [name for name in names if name.rpartition(".")[2] in targets]


def _quantisation(quantise: str, dtype: str) -> dict[str, Any]:
    """Return how transformers is to quantise what it loads."""
    if quantise not in ("", "nf4", "int8"):
        raise ConfigError(f"decoder.quantise is nf4, int8 or empty, not '{quantise}'")
    if not quantise:
        return {}
    if find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise ConfigError(
            f"decoder.quantise={quantise} needs a CUDA GPU and bitsandbytes (`pip install bitsandbytes accelerate`); "
            "without them leave decoder.quantise empty and take decoder.dtype=bf16"
        )
    from transformers import BitsAndBytesConfig

    if quantise == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES.get(dtype, torch.float32),
    )  # fmt: skip
    return {"quantization_config": nf4}
