"""Softmax attention in windows with a learned bias, without keeping the scores of all windows.

Legend: n = windows, h = heads, Q = queries and K = keys of a window, D = channels of one head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_SCORES = 2**18  # scores at a time in the gradient: what fits the second-level cache


def biased_attention(
    query_nhQD: Tensor, key_nhKD: Tensor, value_nhKD: Tensor, bias_hQK: Tensor
) -> Tensor:
    """Return softmax(query key^T / sqrt(D) + bias) value, (n, h, Q, D)."""
    if query_nhQD.device.type == "cpu" and torch.is_grad_enabled() and bias_hQK.requires_grad:
        result: Tensor = _CpuAttention.apply(query_nhQD, key_nhKD, value_nhKD, bias_hQK)
        return result
    return _attention(query_nhQD, key_nhKD, value_nhKD, bias_hQK)


def _attention(query: Tensor, key: Tensor, value: Tensor, bias_hQK: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias_hQK.unsqueeze(0))


class _CpuAttention(torch.autograd.Function):
    """PyTorch's fused CPU kernel has no gradient for the bias, and its plain form keeps all scores.

    Here the gradient computes the scores again, some windows at a time.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        # Detached: even without recording, a bias that requires a gradient rules the kernel out.
        inputs = tuple(x.detach() for x in (query, key, value, bias))
        result = _attention(*inputs)
        ctx.save_for_backward(*inputs, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nhQD: Tensor) -> tuple[Tensor, ...]:
        query, key, value, bias, result = ctx.saved_tensors
        contiguous = torch.contiguous_format
        grads = [torch.empty_like(x, memory_format=contiguous) for x in (query, key, value)]
        grad_bias = torch.zeros_like(bias)
        count = max(1, _SCORES // bias.numel())
        for first in range(0, len(query), count):
            part = slice(first, first + count)
            windows = [x[part] for x in (query, key, value, result, grad_nhQD)]
            grad_bias += _gradients(windows, bias, [grad[part] for grad in grads])
        return *grads, grad_bias


def _gradients(windows: list[Tensor], bias_hQK: Tensor, grads: list[Tensor]) -> Tensor:
    """Write some windows' gradients of query, key and value to `grads`; return the bias's.

    `windows` are query, key, value, the result and its gradient.
    """
    query, key, value, result, grad_result = windows
    grad_query, grad_key, grad_value = grads
    scale = query.shape[-1] ** -0.5
    query = query * scale
    weights = torch.softmax((query @ key.transpose(-1, -2)).add_(bias_hQK), dim=-1)
    torch.matmul(weights.transpose(-1, -2), grad_result, out=grad_value)
    grad_scores = grad_result @ value.transpose(-1, -2)
    grad_scores.sub_((grad_result * result).sum(dim=-1, keepdim=True)).mul_(weights)
    torch.matmul(grad_scores, key, out=grad_query).mul_(scale)
    torch.matmul(grad_scores.transpose(-1, -2), query, out=grad_key)
    return grad_scores.sum(dim=0)
