"""RMS norms of a frozen LLM in training on a CPU: written out with their gradient, in fewer operators.

A norm of transformers is eight operators forward and fourteen backward, each of which goes over all positions once
more. Its numbers are the same but for the order of the sums (in bf16, and for two roundings more). The gradient is that
of a layer norm whose mean is 0, for which torch has a kernel, and the mean that a layer norm's gradient loses.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

ALIKE = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm")
"""classes of transformers that normalise so: x / rms(x) in fp32, rounded, times the weight"""


def quicken_norms(model: torch.nn.Module) -> None:
    """Let those norms of a model run so that can, whenever a gradient goes through them and they are frozen."""
    for module in model.modules():
        if type(module).__name__ in ALIKE:
            module.forward = partial(_forward, module)


def _forward(norm: Any, x: Tensor) -> Tensor:
    learns = torch.is_grad_enabled() and x.requires_grad and x.dtype == norm.weight.dtype
    if not learns or x.device.type != "cpu" or norm.weight.requires_grad:
        return type(norm).forward(norm, x)  # type: ignore[no-any-return]
    found: Tensor = _Norm.apply(x, norm.weight, norm.variance_epsilon)  # type: ignore[no-untyped-call]
    return found


class _Norm(torch.autograd.Function):
    """Normalises (..., D)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        found: Tensor = (wide * scale).to(x.dtype)
        return found.mul_(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        mean, wide, asked = torch.zeros_like(scale), weight.float(), [True, False, False]
        given = slope.contiguous(), x.contiguous(), x.shape[-1:], mean, scale, wide, None, asked
        found: Tensor = torch.ops.aten.native_layer_norm_backward(*given)[0]
        lost = torch.linalg.vecdot(slope, weight).unsqueeze(-1).mul(scale).div_(x.shape[-1])
        return found.add_(lost.to(x.dtype)), None, None
