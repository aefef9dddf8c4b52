"""Trains on windows of tokens: processes of one thread each on the processor, or one process on a GPU."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from default_model import model
from default_model.optimizer import Optimizer, Rates, layout, views
from default_model.shape import Shape


@dataclass(frozen=True)
class Plan:
    """A run: how many steps of how many windows, and how the rates change.

    After `warm` of the run the rates are constant until `late`, then fall to zero in a line.
    """

    steps: int
    batch: int = 8
    seed: int = 1
    warm: float = 0.015
    late: float = 0.45
    balance: float = 0.025
    dropout: float = 0.05
    processes: int = 2
    compiled: bool = True
    save_every: int = 100
    rates: Rates = field(default_factory=Rates)

    def scale(self, step: int) -> float:
        """Factor of the rates at a step, counted from 0."""
        done = step / self.steps
        return min(1.0, (done + 1 / self.steps) / max(self.warm, 1e-9)) * min(1.0, (1 - done) / (1 - self.late))


@dataclass
class Shared:
    """What the processes of a run share: flat vectors, and a row of counters for each process."""

    flat: Tensor
    first: Tensor
    second: Tensor
    gradients: list[Tensor]
    losses: Tensor  # [processes, 3]: sum of the weighted loss, sum of the weights, balance
    stop: Tensor

    @classmethod
    def start(cls, parameters: model.Parameters, processes: int, device: torch.device) -> Shared:
        """With zero moments."""
        flat = torch.cat([tensor.reshape(-1) for tensor in parameters.values()]).to(device)
        vectors = [
            flat,
            torch.zeros_like(flat),
            torch.zeros_like(flat),
            *(torch.zeros_like(flat) for _ in range(processes)),
        ]
        losses, stop = torch.zeros(processes, 3, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
        for vector in (*vectors, losses, stop):
            if vector.device.type == "cpu":
                vector.share_memory_()
        return cls(vectors[0], vectors[1], vectors[2], vectors[3:], losses, stop)


def train(windows: Path, folder: Path, shape: Shape, plan: Plan, *, minutes: float | None = None) -> bool:
    """Goes on from the checkpoint in the folder, or starts; true when the run is complete.

    Stops after so many minutes, with a checkpoint, when they are given.
    """
    gpu = torch.cuda.is_available()
    processes = 1 if gpu else plan.processes
    parameters = model.initial(shape, plan.seed)
    shared = Shared.start(parameters, processes, torch.device("cuda" if gpu else "cpu"))
    begin = load(folder, shared, plan, shape)
    if begin >= plan.steps:
        return True
    deadline = time.time() + 60 * minutes if minutes else float("inf")
    arguments = (processes, windows, folder, shape, plan, shared, layout(parameters), begin, deadline)
    if processes == 1:
        work(0, *arguments, None)
    else:
        barrier = multiprocessing.get_context("spawn").Barrier(processes)
        multiprocessing.spawn(work, (*arguments, barrier), nprocs=processes)
    return load(folder, shared, plan, shape) >= plan.steps


def work(
    rank: int, processes: int, windows: Path, folder: Path, shape: Shape, plan: Plan, shared: Shared,
    places: dict[str, tuple[int, torch.Size]], begin: int, deadline: float, barrier: multiprocessing.Barrier | None,
) -> None:  # fmt: skip
    """One process's part of every step; the first also shows progress and saves."""
    device = shared.flat.device
    if device.type == "cpu" and processes > 1:
        torch.set_num_threads(1)
    if plan.compiled:
        model.compile_all()
    with np.load(windows) as file:
        data = {name: file[name] for name in ("ids", "weights", "numbers")}
    gradients = [views(one, places) for one in shared.gradients]
    parameters = views(shared.flat, places)
    for name, tensor in parameters.items():
        tensor.requires_grad_().grad = gradients[rank][name]
    optimizer = Optimizer(places, shared.flat, shared.first, shared.second, rank=rank, world=processes)
    progress = Progress(plan, begin, plan.batch * (data["ids"].shape[1] - 1))
    wait = barrier.wait if barrier else lambda: None
    for step in range(begin, plan.steps):
        torch.manual_seed((plan.seed * 1_000_003 + step) * processes + rank)
        rows = slice(
            step * plan.batch + rank * plan.batch // processes, step * plan.batch + (rank + 1) * plan.batch // processes
        )
        shared.gradients[rank].zero_()
        shared.losses[rank] = backward(parameters, {name: one[rows] for name, one in data.items()}, shape, plan, device)
        wait()
        optimizer.step(gradients, step + 1, plan.scale(step), plan.rates)
        if rank == 0:
            shared.stop[0] = int(time.time() > deadline or step + 1 == plan.steps)
            progress.show(step + 1, shared.losses)
        wait()
        if rank == 0 and (shared.stop or (step + 1) % plan.save_every == 0):
            save(folder, shared, step + 1, plan, shape)
        if shared.stop:
            break


def backward(
    parameters: model.Parameters, data: dict[str, np.ndarray], shape: Shape, plan: Plan, device: torch.device
) -> Tensor:
    """Adds the gradients of some windows; the loss and the weights summed, and the balance."""
    ids, weights, numbers = (
        torch.from_numpy(data[name].astype(np.int64)).to(device) for name in ("ids", "weights", "numbers")
    )
    same = numbers[:, 1:] == numbers[:, :-1]
    weight = torch.where(same, weights[:, 1:], 0).reshape(-1).float()
    targets = torch.where(weight.view_as(same) > 0, ids[:, 1:], -1)
    x, balance, _ = model.trunk(parameters, ids[:, :-1], numbers[:, :-1], shape, torch.bfloat16, plan.dropout)
    each = model.LOSS(x, parameters["norm"], parameters["head"], targets, shape.epsilon, torch.bfloat16)
    (each @ weight / weight.sum().clamp(min=1) + plan.balance * balance).backward()
    plain = (weight > 0).double()
    return torch.stack([each.detach().double() @ plain, plain.sum(), balance.detach().double()]).cpu()


class Progress:
    """A line with the loss, the speed and the time left; every twenty steps a line that stays."""

    def __init__(self, plan: Plan, begin: int, tokens: int) -> None:
        self._plan, self._begin, self._tokens = plan, begin, tokens
        self._started, self._counted = time.time(), begin
        self._loss: float | None = None

    def show(self, step: int, losses: Tensor) -> None:
        """After a step."""
        now = float(losses[:, 0].sum() / losses[:, 1].sum().clamp(min=1))
        self._loss = now if self._loss is None else 0.95 * self._loss + 0.05 * now
        if step <= self._begin + 2:  # the first steps compile
            self._started, self._counted = time.time(), step
            return
        speed = (time.time() - self._started) / (step - self._counted)
        left = round(speed * (self._plan.steps - step) / 60)
        line = (
            f"step {step}/{self._plan.steps}  loss {self._loss:.3f}  balance {float(losses[:, 2].mean()):.3f}  "
            f"{self._tokens / speed:.0f} tokens/s  {left // 60}:{left % 60:02d} h left"
        )
        if step % 20 == 0 or step == self._plan.steps:
            print(line, flush=True)
        elif sys.stdout.isatty():
            print(line, end="\r", flush=True)


def save(folder: Path, shared: Shared, step: int, plan: Plan, shape: Shape) -> None:
    """Replaces the checkpoint whole, or not at all."""
    state = {"flat": shared.flat.detach(), "first": shared.first, "second": shared.second, "step": step}
    written = folder / "checkpoint.new"
    torch.save({**state, "steps": plan.steps, "seed": plan.seed, "shape": shape.as_dict()}, written)
    os.replace(written, folder / "checkpoint.pt")


def load(folder: Path, shared: Shared, plan: Plan, shape: Shape) -> int:
    """Steps done.

    Raises:
        ValueError: when the checkpoint is of another run.
    """
    state = None
    with contextlib.suppress(FileNotFoundError):
        state = torch.load(folder / "checkpoint.pt", map_location=shared.flat.device)
    if state is None:
        return 0
    if (state["steps"], state["seed"], state["shape"]) != (plan.steps, plan.seed, shape.as_dict()):
        raise ValueError(f"{folder}/checkpoint.pt is of a run with other steps, seed or shape: choose another folder")
    with torch.no_grad():
        for name in ("flat", "first", "second"):
            getattr(shared, name).copy_(state[name])
    return int(state["step"])


def trained(folder: Path, shape: Shape, seed: int) -> model.Parameters:
    """The parameters of a folder's checkpoint."""
    state = torch.load(folder / "checkpoint.pt", map_location="cpu")
    return views(state["flat"], layout(model.initial(shape, seed)))
