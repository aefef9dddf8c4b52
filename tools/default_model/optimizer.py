"""Muon for the matrices, Adam for everything else, on slices of flat vectors that processes share.

Muon: Jordan et al., 2024. Each of the five Newton-Schulz steps has coefficients of its own, those that the model before
was trained with.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from default_model.model import MATRICES

STEPS = (
    (4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037), (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)  # fmt: skip
MOMENTUM, ADAM = 0.95, (0.9, 0.99)
CHUNK = 8  # matrices orthogonalised at a time, so that they stay in cache


@dataclass(frozen=True)
class Rates:
    """Largest learning rates, and the decay of matrices for each unit of theirs."""

    muon: float = 0.02
    adam: float = 3e-3
    router: float = 1e-3
    decay: float = 0.07


def layout(parameters: dict[str, Tensor]) -> dict[str, tuple[int, torch.Size]]:
    """Where each tensor lies in a flat vector."""
    places, at = {}, 0
    for name, tensor in parameters.items():
        places[name] = (at, tensor.shape)
        at += tensor.numel()
    return places


def views(flat: Tensor, places: dict[str, tuple[int, torch.Size]]) -> dict[str, Tensor]:
    """The tensors that lie in a flat vector."""
    return {name: flat[at : at + math.prod(shape)].view(shape) for name, (at, shape) in places.items()}


def orthogonalise(stack: Tensor) -> Tensor:
    """Of [count, rows, columns] in bf16, rows <= columns: nearly orthogonal rows, in place."""
    for part in stack.split(CHUNK):
        x = part / (part.float().flatten(1).norm(dim=1)[:, None, None].to(part.dtype) * 1.01 + 1e-7)
        for a, b, c in STEPS:
            gram = torch.bmm(x, x.transpose(1, 2))
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        part.copy_(x)
    return stack


class Optimizer:
    """Of the tensors that one process owns: every `world`th layer, and a share of the rest."""

    def __init__(
        self,
        places: dict[str, tuple[int, torch.Size]],
        flat: Tensor,
        first: Tensor,
        second: Tensor,
        *,
        rank: int,
        world: int,
    ) -> None:
        """flat holds the parameters, first and second the moments; all of one length, and shared."""
        self._parameters = views(flat, places)
        self._first, self._second = views(first, places), views(second, places)
        self._matrices: dict[tuple[int, int], list[str]] = defaultdict(list)
        self._others: list[str] = []
        for number, name in enumerate(places):
            layer, _, kind = name.rpartition(".")
            if (int(layer) if layer else number) % world != rank:
                continue
            if kind in MATRICES:
                self._matrices[self._sizes(name)].append(name)
            else:
                self._others.append(name)

    def _sizes(self, name: str) -> tuple[int, int]:
        """Rows and columns of a matrix; gate and up are two."""
        shape = self._parameters[name].shape
        return (shape[-2] // 2 if name.endswith("gate_up") else shape[-2], shape[-1])

    @torch.no_grad()
    def step(self, gradients: list[dict[str, Tensor]], step: int, scale: float, rates: Rates) -> None:
        """With the mean of several processes' gradients; step counts from 1, scale is the schedule's factor."""
        for (rows, columns), names in self._matrices.items():
            updates = []
            for name in names:
                mean = torch.stack([one[name] for one in gradients]).mean(0)
                momentum = self._first[name].mul_(MOMENTUM).add_(mean, alpha=1 - MOMENTUM)
                updates.append(mean.lerp_(momentum, MOMENTUM).to(torch.bfloat16).view(-1, rows, columns))
            sizes = [len(one) for one in updates]
            stack = orthogonalise(torch.cat(updates))
            rate = scale * rates.muon * max(1.0, rows / columns) ** 0.5
            for name, update in zip(names, stack.split(sizes), strict=True):
                matrix = self._parameters[name]
                matrix.mul_(1 - scale * rates.muon * rates.decay).add_(
                    update.reshape(matrix.shape).float(), alpha=-rate
                )
        for name in self._others:
            mean = torch.stack([one[name] for one in gradients]).mean(0)
            first = self._first[name].lerp_(mean, 1 - ADAM[0]) / (1 - ADAM[0] ** step)
            second = self._second[name].mul_(ADAM[1]).addcmul_(mean, mean, value=1 - ADAM[1]) / (1 - ADAM[1] ** step)
            rate = scale * (rates.router if name.endswith("router") else rates.adam)
            self._parameters[name].addcdiv_(first, second.sqrt_().add_(1e-10), value=-rate)
