"""How the encoder is trained: not at all, by LoRA (arXiv 2106.09685) beside its linear layers, or whole.

Ultravox adds LoRA of rank 8 to Whisper from version 0.5 on (github fixie-ai/ultravox); AudioChatLlama (2311.06753)
trains its encoder. Targets, alpha, dropout and how the whole encoder is treated are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from toolkit.errors import ConfigError, check_names

MODES = ("frozen", "lora", "full")


@dataclass(frozen=True)
class EncoderTraining:
    """What of an encoder training changes; the keys are those of `train.encoder_*`.

    Args:
        mode: `frozen`, `lora` or `full`.
        learning_rate: at the peak; None is that of everything else.
        rank: of LoRA.
        alpha: what LoRA adds is scaled by alpha / rank.
        dropout: in front of LoRA.
        targets: last part of the names of the linear layers that get LoRA.

    Raises:
        ConfigError: a value that cannot be.
    """

    mode: str = "frozen"
    learning_rate: float | None = None
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"train.encoder is one of {', '.join(MODES)}, not '{self.mode}'")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ConfigError(f"train.encoder_learning_rate is more than 0, not {self.learning_rate}")
        if self.mode == "lora" and (self.rank < 1 or not 0 <= self.dropout < 1 or not self.targets):
            raise ConfigError(
                "train.encoder=lora needs train.encoder_rank of at least 1, train.encoder_dropout in [0, 1) and some "
                "train.encoder_targets"
            )

    @property
    def trained(self) -> bool:
        """Tell whether frames change from step to step, so that none can be kept."""
        return self.mode != "frozen"

    def apply(self, encoder: nn.Module) -> None:
        """Make an encoder that was just built ready for it: LoRA beside its layers, and gradients where they belong.

        Raises:
            ConfigError: it has no such layers, or no weights at all.
        """
        if self.mode == "lora":
            from peft import LoraConfig, inject_adapter_in_model

            layers = _linear(encoder, self.targets)
            matrices = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
            config = LoraConfig(**matrices, target_modules=layers)
            inject_adapter_in_model(config, encoder)
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(self.mode == "full" or (self.mode == "lora" and _is_lora(name)))
        if self.trained and not any(True for _ in encoder.parameters()):
            raise ConfigError(f"{type(encoder).__name__} has no weights to train: say train.encoder=frozen")
        set_mode(encoder, training=False)


def set_mode(encoder: nn.Module, *, training: bool) -> None:
    """Switch the dropout of LoRA alone.

    All else stays in evaluation mode, trained or not: in training mode some encoders mask and skip by chance that no
    seed of a step reaches, and normalise by their neighbours.
    """
    encoder.eval()
    for name, module in encoder.named_modules():
        if name.endswith(".lora_dropout"):
            module.train(training)


def own_state(encoder: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of an encoder without LoRA, by the names they have then."""
    state = encoder.state_dict()
    return {name.replace(".base_layer.", "."): tensor for name, tensor in state.items() if not _is_lora(name)}


def mode_of(names: set[str]) -> str:
    """Tell how an encoder was trained from the names of what was trained of a speech LLM."""
    mine = {name for name in names if name.startswith("encoder.")}
    return "frozen" if not mine else "lora" if any(map(_is_lora, mine)) else "full"


def check_reached(encoder: nn.Module) -> None:
    """Refuse LoRA on a kind of layer that no gradient has reached in a backward pass.

    Raises:
        ConfigError: naming those layers.
    """
    reached: dict[str, bool] = {}
    for name, parameter in encoder.named_parameters():
        if _is_lora(name):
            layer = name.partition(".lora_")[0].rpartition(".")[2]
            reached[layer] = reached.get(layer, False) or parameter.grad is not None
    if idle := sorted(layer for layer, found in reached.items() if not found):
        raise ConfigError(
            f"LoRA on {', '.join(idle)} changes nothing: this encoder reads the weights of such layers without running "
            "them, as WavLM's attention does, or nothing runs after its taps. Name others in train.encoder_targets"
        )


def _is_lora(name: str) -> bool:
    return ".lora_" in name


def _linear(encoder: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Return the full names of the linear layers that end in one of `targets`."""
    names = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    known = {name.rpartition(".")[2] for name in names}
    check_names("entry of train.encoder_targets", targets, known)
    return [name for name in names if name.rpartition(".")[2] in targets]
