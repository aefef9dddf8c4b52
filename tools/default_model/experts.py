"""The experts of a layer: tokens sorted by expert, and one product of matrices for each expert that has some."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def activate(hidden: Tensor, weight: Tensor) -> Tensor:
    """SwiGLU of [rows, 2 width], each row times its weight."""
    gate, up = hidden.float().chunk(2, -1)
    return (F.silu(gate) * up * weight[:, None]).to(hidden.dtype)


def activate_backward(hidden: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `activate` by hidden and by weight, and its result."""
    gate, up = hidden.float().chunk(2, -1)
    gradient = gradient.float()
    sigmoid = torch.sigmoid(gate)
    silu = gate * sigmoid
    by_weight = (gradient * silu * up).sum(-1)
    scaled = gradient * weight[:, None]
    by_hidden = torch.cat([scaled * up * (sigmoid + silu * (1 - sigmoid)), scaled * silu], -1)
    return by_hidden.to(hidden.dtype), by_weight, (silu * up * weight[:, None]).to(hidden.dtype)


ACTIVATE, ACTIVATE_BACKWARD = activate, activate_backward


def compile_activations() -> None:
    """Worth it for long runs only."""
    global ACTIVATE, ACTIVATE_BACKWARD
    ACTIVATE = torch.compile(activate, dynamic=False)
    ACTIVATE_BACKWARD = torch.compile(activate_backward, dynamic=False)


class Experts(torch.autograd.Function):
    """The weighted sum of each token's experts.

    Shapes: x [tokens, hidden], weights and chosen [tokens, used], gate_up [experts, 2 width, hidden], down [experts,
    hidden, width]. Products are in the type of x, gradients of the matrices in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor, chosen: Tensor) -> Tensor:
        used = chosen.shape[1]
        flat = chosen.reshape(-1)
        order = torch.argsort(flat, stable=True)
        back = torch.empty_like(order)
        back[order] = torch.arange(order.numel(), device=order.device)
        ends = torch.cumsum(torch.bincount(flat, minlength=gate_up.shape[0]), 0).tolist()
        token = torch.div(order, used, rounding_mode="floor")
        rows, scale = x[token], weights.reshape(-1)[order]
        gate_up, down = gate_up.to(x.dtype), down.to(x.dtype)
        hidden = rows.new_empty(rows.shape[0], gate_up.shape[1])
        for expert, start, end in spans(ends):
            torch.mm(rows[start:end], gate_up[expert].t(), out=hidden[start:end])
        active = ACTIVATE(hidden, scale)
        out = torch.empty_like(rows)
        for expert, start, end in spans(ends):
            torch.mm(active[start:end], down[expert].t(), out=out[start:end])
        ctx.save_for_backward(rows, scale, hidden, gate_up, down, back, token)
        ctx.ends, ctx.used = ends, used
        return out[back].view(-1, used, x.shape[1]).sum(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        rows, scale, hidden, gate_up, down, back, token = ctx.saved_tensors
        out = gradient.to(rows.dtype)[token]
        active = torch.empty_like(hidden[:, : down.shape[2]])
        for expert, start, end in spans(ctx.ends):
            torch.mm(out[start:end], down[expert], out=active[start:end])
        by_hidden, by_scale, active = ACTIVATE_BACKWARD(hidden, scale, active)
        by_gate_up, by_down, by_rows = torch.zeros_like(gate_up), torch.zeros_like(down), torch.empty_like(rows)
        for expert, start, end in spans(ctx.ends):
            torch.mm(by_hidden[start:end], gate_up[expert], out=by_rows[start:end])
            torch.mm(by_hidden[start:end].t(), rows[start:end], out=by_gate_up[expert])
            torch.mm(out[start:end].t(), active[start:end], out=by_down[expert])
        by_x = by_rows[back].view(-1, ctx.used, rows.shape[1]).sum(1)
        return by_x, by_scale[back].view(-1, ctx.used), by_gate_up.float(), by_down.float(), None


def spans(ends: list[int]) -> list[tuple[int, int, int]]:
    """Expert, first row and end of those that have rows."""
    starts = [0, *ends[:-1]]
    return [(expert, start, end) for expert, (start, end) in enumerate(zip(starts, ends, strict=True)) if end > start]
