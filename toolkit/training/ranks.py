"""Processes that train together: one sum of gradients a step, and a frozen text LLM that they may share out (FSDP).

What is trained is small and whole in every process. Its gradients are summed once a step, however many micro-batches
each process had and whether or not it had speech at all, so nothing is looked for and nothing waits in between. PyTorch
DDP's hooks inside the backward pass would gain nothing: an adapter's gradients come last, when all else is done.
Sharing out the text LLM is PyTorch's `fully_shard` on its layers; what is trained of it, such as LoRA, stays whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from toolkit.errors import ConfigError, RankError
from toolkit.models.speech_llm import SpeechLLM

TOGETHER = 2**25
"""values that are summed over processes at a time"""

Said = TypeVar("Said")


@dataclass(frozen=True)
class Share:
    """What one process knows of a step once its backward passes are done.

    Args:
        total: sum of the loss.
        count: of supervised tokens (or what else the loss counts).
        parts: sums of the parts of the loss.
        ids: of its examples.
        idle: numbers of the trained parameters that no gradient has reached.
        elapsed: seconds of training before the step.
        seconds: that the step took, data included.
    """

    total: float
    count: int
    parts: dict[str, float]
    ids: tuple[str, ...]
    idle: frozenset[int]
    elapsed: float
    seconds: float


class Ranks(DDPStrategy):
    """Lightning's strategy for processes started by torchrun.

    Args:
        shared_out: whether each process holds a part of the text LLM's layers and gathers the rest as it needs them.
        minutes: that a process waits for the others before it gives up.
    """

    def __init__(self, *, shared_out: bool, minutes: float) -> None:
        super().__init__(timeout=timedelta(minutes=minutes))
        self.shared_out = shared_out
        self._holders = 1

    def model_to_device(self) -> None:
        """Share the text LLM out before anything of it lies on an accelerator."""
        assert self.lightning_module is not None
        if self.shared_out:
            # Within a node, where there are several processes: gathering from another node is slow.
            holders = self.num_processes if self.num_processes > 1 else self.world_size
            mesh = init_device_mesh(
                self.root_device.type, (self.world_size // holders, holders), mesh_dim_names=("copies", "holders")
            )
            share_out(self.lightning_module.model, mesh["holders"])
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Begin with the weights of the first process; the model is wrapped in nothing."""
        assert self.lightning_module is not None
        for parameter in trained_of(self.lightning_module.model):
            dist.broadcast(parameter.data, 0)


def trained_of(model: nn.Module) -> list[nn.Parameter]:
    """Return what is trained, in the order that all processes have."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def told_by_all(said: Said) -> list[Said]:
    """Return what each process says, in the order of ranks; alone, what this one says.

    Raises:
        RankError: another process is gone, or not heard of for `train.rank_timeout` minutes.
    """
    if not _several():
        return [said]
    heard: list[Any] = [None] * dist.get_world_size()
    try:
        dist.all_gather_object(heard, said)
    except RuntimeError as error:
        raise _gone(error) from error
    return heard


def sum_gradients(trained: Seq[nn.Parameter], idle: frozenset[int]) -> None:
    """Sum the gradients over all processes, in place.

    Args:
        trained: what is trained, the same in every process.
        idle: numbers of those that no process has a gradient for; they keep none.

    Raises:
        RankError: as `told_by_all`.
    """
    if not _several():
        return
    reached = [parameter for i, parameter in enumerate(trained) if i not in idle]
    for group in _groups(reached):
        held = [torch.zeros_like(p) if p.grad is None else p.grad for p in group]
        flat = torch.cat([gradient.float().flatten() for gradient in held])
        try:
            dist.all_reduce(flat)
        except RuntimeError as error:
            raise _gone(error) from error
        for parameter, summed in zip(group, flat.split([p.numel() for p in group]), strict=True):
            parameter.grad = summed.view_as(parameter).to(parameter.dtype)


def share_out(model: SpeechLLM, mesh: Any) -> None:
    """Leave each process of `mesh` its part of the frozen layers of the text LLM; embeddings and head stay whole.

    Processes gather layers together, so each must pass them as often as the others: rows no longer share the passes
    of their prefixes, whose number depends on the rows, and text alone goes back through the layers too.

    Raises:
        ConfigError: the decoder has no stack of layers.
    """
    from torch.distributed.fsdp import fully_shard

    decoder = model.decoder
    lists = {n: m for n, m in decoder.named_modules() if isinstance(m, nn.ModuleList) and any(True for _ in m)}
    stacks = {name: m for name, m in lists.items() if not any(name.startswith(f"{other}.") for other in lists)}
    if not stacks:
        raise ConfigError(f"{type(decoder).__name__} has no stack of layers to share out: say train.strategy=ddp")
    trained = set(trained_of(decoder))
    for name, layers in stacks.items():
        inner = {parameter for layer in layers for parameter in layer.parameters()}
        for layer in layers:
            fully_shard(layer, mesh=mesh, ignored_params=trained)
        body = decoder.get_submodule(name.rpartition(".")[0])
        # The whole has nothing of its own: it tells the layers in which order they come.
        fully_shard(body, mesh=mesh, ignored_params=set(body.parameters()) - inner | trained)
        body.register_forward_pre_hook(_with_gradients, with_kwargs=True)
    model.shares_prefixes = False


def _with_gradients(module: nn.Module, arguments: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Let the backward pass go through the layers whether or not there is speech in front of them."""
    if not torch.is_grad_enabled():
        return arguments, options

    def wanted(value: Any) -> Any:
        plain = isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad
        return value.detach().requires_grad_() if plain else value

    return tuple(map(wanted, arguments)), {key: wanted(value) for key, value in options.items()}


def _groups(parameters: Seq[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Divide into groups of about `TOGETHER` values, so that a large trained part is not in memory twice."""
    group: list[nn.Parameter] = []
    for parameter in parameters:
        group.append(parameter)
        if sum(p.numel() for p in group) >= TOGETHER:
            yield group
            group = []
    if group:
        yield group


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gone(error: RuntimeError) -> RankError:
    return RankError(
        f"process {dist.get_rank()} of {dist.get_world_size()} waits for another that has ended or is stuck "
        f"({str(error).splitlines()[0]}): see what that one has said. The same command goes on from the last "
        "checkpoint; train.rank_timeout is how long processes wait"
    )
