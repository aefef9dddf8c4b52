"""How fast a model decodes and reads prompts under a budget, from its headers and what a machine can do."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from edgemoe.budget import Plan, Planners, estimate_plan, smallest_budget
from edgemoe.errors import BudgetError
from edgemoe.experts.quality import EXACT, LEVELS, TARGETS, parse_quality
from edgemoe.packs.summary import EMBEDDING, open_model, summarize
from edgemoe.planning.locality import HitCurve
from edgemoe.planning.machines import Machine
from edgemoe.planning.precision import mean_errors, mean_planes
from edgemoe.planning.roofline import TokenTime, Work, prompt_time, token_time

_OUTPUT = "output.weight"
_T16_BITS = 0.5625
"""Bits of a T16 weight beyond its level: scales, and the choice of a table's row (docs/format.md)."""
_PROMPT = 512
_CONTEXT = 1024
"""Tokens that the context holds when one more is generated."""
_STEPS = 30  # of a search for a budget: it is then known to a few bytes


@dataclass(frozen=True)
class Forecast:
    """What to expect of one budget and quality on one machine, when the model has run for a while.

    `share` is how much of the experts' bytes fit into memory, `budget` and `plan` what was planned with.
    `prompt_per_second` is for prompts as long as a batch; `load_seconds` are what reading the dense part takes.
    """

    machine: Machine
    quality: str
    budget: int
    plan: Plan
    share: float
    hit_rate: float
    token: TokenTime
    prompt_per_second: float
    load_seconds: float


class Forecaster:
    """Forecasts for one model file. Use it as a context, which keeps llama.cpp's plans of it.

    Raises:
        ModelError, ReadError: when the file is no usable model.
        BudgetError: for a dense model, which runs without a budget.
    """

    def __init__(self, path: str | os.PathLike[str], curve: HitCurve, *, n_ctx: int | None = None) -> None:
        self._model = open_model(path)
        self.summary = summarize(path, self._model)
        if not self.summary.experts:
            name = self.summary.path.name
            raise BudgetError(f"{name} has no experts: llama.cpp runs it as it is, and there is no budget to plan")
        self.levels: tuple[int, ...] = tuple(self._model.levels)
        self._curve = curve
        self._n_ctx = n_ctx
        self._planners: dict[int, Planners] = {}
        self._works: dict[str, Work] = {}

    @property
    def qualities(self) -> list[str]:
        """What `quality=` offers for this file, the best first."""
        targets = sorted(TARGETS, key=TARGETS.__getitem__) if self.levels else []
        return [EXACT, *targets, *(f"fixed:{level}" for level in reversed(self.levels[:-1]))]

    def smallest(self, quality: str = EXACT) -> Plan:
        """The plan with the smallest budget that runs the model."""
        level = self._top_level(quality)
        return smallest_budget(self.summary.path, n_ctx=self._n_ctx, top_level=level)

    def forecast(self, machine: Machine, budget: int, quality: str = EXACT) -> Forecast:
        """Raises BudgetError when the budget is too small, EdgeMoEError for an unknown quality."""
        return self._forecast(machine, budget, quality, ratio=1.0)

    def packed(self, machine: Machine, budget: int) -> dict[int, Forecast]:
        """What levels of a pack of this file would do; empty for a pack. The source's own precision is left out."""
        if self.levels:
            return {}
        source = 8 * self.summary.expert_bytes / self._expert_weights()
        ratios = {level: (level + _T16_BITS) / source for level in LEVELS}
        return {
            level: self._forecast(machine, budget, f"fixed:{level}", ratio=ratio)
            for level, ratio in ratios.items()
            if ratio < 1
        }

    def budget_for(self, share: float, quality: str = EXACT) -> int:
        """The budget that has room for `share` of the experts."""
        low = self.smallest(quality).smallest
        high = low + self._plan(low, quality).full_cache + self.summary.dense_bytes
        while self._share(high, quality) < share:
            high *= 2
        for _ in range(_STEPS):
            middle = (low + high) // 2
            low, high = (low, middle) if self._share(middle, quality) >= share else (middle, high)
        return high

    # One forecast

    def _forecast(self, machine: Machine, budget: int, quality: str, *, ratio: float) -> Forecast:
        """`ratio`: to the size of this file's experts, for packs that are not made yet."""
        offered = quality if ratio == 1.0 else EXACT
        plan, work = self._plan(budget, offered), self._work(offered)
        work = replace(work, expert_bytes=int(work.expert_bytes * ratio))
        full = plan.full_cache * ratio
        share = min(1.0, plan.cache_bytes(budget) / full)
        state = plan.parts["KV cache"] * min(1.0, _CONTEXT / plan.shape.n_ctx)
        work = replace(work, state_bytes=int(state))
        hit_rate = self._curve(min(1.0, share * self._room(offered)))
        token = token_time(machine, work, hit_rate)
        in_memory = plan.parts["dense weights"] + plan.parts["token embedding"]
        return Forecast(
            machine=machine,
            quality=quality,
            budget=budget,
            plan=plan,
            share=share,
            hit_rate=hit_rate,
            token=token,
            prompt_per_second=self._prompt_per_second(machine, work, plan, budget, full),
            load_seconds=in_memory / machine.disk_bandwidth,
        )

    def _prompt_per_second(self, machine: Machine, work: Work, plan: Plan, budget: int, full: float) -> float:
        """Each batch reads what of its experts is not in memory, and buffers take memory from the cache meanwhile."""
        tokens = min(_PROMPT, plan.shape.n_ubatch)
        used = self.summary.experts_used / self.summary.experts
        needed = (1 - (1 - used) ** tokens) * full
        resident = min(plan.cache_bytes(budget) - plan.prompt_bytes(tokens), full)
        output = sum(math.prod(t.shape) for t in self._model.tensors if t.name == _OUTPUT)
        without_output = replace(work, dense_multiplications=work.dense_multiplications - output)
        return tokens / prompt_time(machine, without_output, tokens, max(0.0, needed - resident))

    # What the model takes

    def _work(self, quality: str) -> Work:
        if quality not in self._works:
            planner = self._planners_of(quality).get(False)
            if bits := parse_quality(quality, self.levels).bits:
                planner.check_bits(bits)
            skipped = planner.skipped
            tensors = [tensor for tensor in self._model.tensors if tensor.name not in skipped]
            used = self.summary.experts_used
            planes = mean_planes(quality, self.levels, self._errors, used)
            dense = [tensor for tensor in tensors if not tensor.expert and not self._looked_up(tensor.name)]
            experts = [tensor for tensor in tensors if tensor.expert]
            self._works[quality] = Work(
                dense_bytes=sum(tensor.bytes for tensor in dense),
                dense_multiplications=sum(math.prod(tensor.shape) for tensor in dense),
                expert_bytes=int(sum(used * _expert_bytes(tensor, planes) for tensor in experts)),
                expert_multiplications=sum(used * math.prod(tensor.shape[:2]) for tensor in experts),
                state_bytes=0,
                layers=self.summary.layers,
                vocabulary=self.summary.vocabulary,
            )
        return self._works[quality]

    @cached_property
    def _errors(self) -> list[float]:
        return mean_errors(self.summary.path) if self.levels else []

    def _room(self, quality: str) -> float:
        """How often the planes that a token asks for fit where all fit once: those that none asks for are not kept."""
        asked = parse_quality(quality, self.levels)
        if not asked.target and not asked.bits:
            return 1.0
        return self._work(EXACT).expert_bytes / self._work(quality).expert_bytes

    def _looked_up(self, name: str) -> bool:
        """Whether a token takes one row of the tensor, not all of it."""
        return name == EMBEDDING and not self.summary.embedding_tied

    def _expert_weights(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self._model.tensors if tensor.expert)

    # What a budget leaves

    def _share(self, budget: int, quality: str) -> float:
        plan = self._plan(budget, quality)
        return plan.cache_bytes(budget) / plan.full_cache

    def _plan(self, budget: int, quality: str) -> Plan:
        return estimate_plan(self.summary, self._planners_of(quality), budget, self._n_ctx)

    def _planners_of(self, quality: str) -> Planners:
        level = self._top_level(quality)
        if level not in self._planners:
            self._planners[level] = Planners(self._model, top_level=level)
        return self._planners[level]

    def _top_level(self, quality: str) -> int:
        return parse_quality(quality, self.levels).top_level

    def __enter__(self) -> Forecaster:
        return self

    def __exit__(self, *_: object) -> None:
        for planners in self._planners.values():
            planners.__exit__()


def _expert_bytes(tensor: Any, planes: float) -> float:
    """Bytes of one expert's matrix with so many planes of a pack; of a fraction of a plane, that fraction."""
    sizes = tensor.plane_bytes if any(tensor.plane_bytes) else [tensor.bytes / tensor.shape[2]]
    return sum(size * min(1.0, max(0.0, planes - below)) for below, size in enumerate(sizes))
