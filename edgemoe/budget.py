"""What a process that runs a model needs, who gets how much of a budget, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgemoe import machine
from edgemoe.errors import BudgetError
from edgemoe.experts.quality import LEVELS
from edgemoe.packs.summary import ModelSummary, open_model, summarize
from edgemoe.sizes import format_size, parse_size

if TYPE_CHECKING:
    from edgemoe.experts.planning import ContextShape, Planner

MIB = 1 << 20
SMALL_BATCH = 32
"""Tokens up to which a batch is computed without taking memory from the experts."""

# Resident before a model is loaded, for estimates made in another process than the one that will run it:
# interpreter, numpy and llama.cpp's libraries.
_BASELINE = 56 * MIB
# Pages of libraries and Python modules that loading a model touches for the first time.
_LOADING = 24 * MIB
# llama.cpp keeps a text, a score and two hash table entries for each token, and an entry for each merge: 430 bytes a
# token measured on the Qwen2 vocabulary (151,936 tokens).
_VOCABULARY_BYTES_PER_TOKEN = 450
# ggml's work buffer, stacks, and what Python allocates while it generates.
_WORKING = 32 * MIB
# ggml converts attention's weights to F16 before it multiplies values by them.
_WEIGHT_BYTES = 2
# What figures like these do not foresee, and what the kernel keeps for the process (page tables, sockets, files).
_MARGIN = 8 * MIB
_MARGIN_SHARE = 64
# Compute buffers may take this share of what is left for them and the experts. It is large because they take it only
# while a prompt is computed: afterwards the memory goes back to the experts.
_COMPUTE_SHARE = 0.6
# The same with what ggml needs at the end of a prompt that fills the context.
_PROMPT_SHARE = 0.85
# The KV cache of a context whose length was not asked for may take this share.
_STATE_SHARE = 0.25
DEFAULT_BATCH = 512
"""llama-cpp-python's default for n_batch and n_ubatch."""
LARGEST_BATCH = 4096
"""Tokens that are computed at once where experts do not fit: each batch of a prompt reads what is not in memory."""
FEW_OUTPUTS = 64
"""Tokens of a batch whose logits can be asked for where experts are streamed."""
_SMALLEST_UBATCH = 32
_SMALLEST_CTX = 512
# Longer contexts are only made when they are asked for: even planning one makes its cells.
_LARGEST_CTX = 131072


@dataclass(frozen=True)
class Plan:
    """How a budget is spent. `parts` are bytes by purpose, in the order in which they are shown."""

    shape: ContextShape
    embedding_on_disk: bool
    parts: dict[str, int]
    minimum_cache: int
    full_cache: int
    row: int = 0
    """Bytes that ggml works in for each token of a batch and each of the context: attention's weights as F16."""

    @property
    def fixed(self) -> int:
        return sum(self.parts.values())

    @property
    def smallest(self) -> int:
        """The smallest budget with these settings."""
        return self.fixed + self.minimum_cache

    @property
    def comfortable(self) -> int:
        """The budget from which on nothing is read twice."""
        return self.fixed + self.full_cache

    def batch_bytes(self, tokens: int, context: int | None = None) -> int:
        """What computing a batch of `tokens` writes: compute buffers are touched in proportion.

        context: tokens that it attends to, its own included; a full context unless it is given.
        """
        context = min(self.shape.n_ctx, context or self.shape.n_ctx)
        at_once = min(tokens, self.shape.n_ubatch)
        return int(self.parts["compute buffers"] * at_once / self.shape.n_ubatch) + self.row * at_once * context

    def prompt_bytes(self, tokens: int, context: int | None = None) -> int:
        """What of it goes beyond a batch of SMALL_BATCH tokens that attends to a full context."""
        return max(0, self.batch_bytes(tokens, context) - self.batch_bytes(SMALL_BATCH))

    def cache_bytes(self, budget: int) -> int:
        """What `budget` leaves for experts while single tokens are computed, at most all of them."""
        left = budget - self.fixed + self.prompt_bytes(self.shape.n_ubatch)
        return min(max(left, self.minimum_cache), self.full_cache)

    def notes(self, summary: ModelSummary, n_ctx: int | None, n_ubatch: int) -> list[str]:
        """What people should know of the context; `n_ctx` (None: as much as fits) and `n_ubatch` were asked for."""
        notes, shape, trained = [], self.shape, summary.n_ctx_train
        each = shape.n_ctx // shape.n_seq_max
        if not n_ctx and shape.n_ctx < trained:
            notes.append(f"n_ctx is {shape.n_ctx} of {trained} trained, to fit the budget")
        if n_ctx and 0 < trained < each:
            notes.append(f"the context has {each} tokens, the model was trained with {trained}: more may confuse it")
        if shape.n_ubatch < (asked := min(n_ubatch, shape.n_batch)):
            notes.append(f"n_ubatch is {shape.n_ubatch} instead of {asked}, to fit the budget")
        return notes

    def table(self) -> str:
        return table(self.parts | {"experts, at the least": self.minimum_cache, "smallest budget": self.smallest})


def table(sizes: dict[str, int]) -> str:
    """Lines with names and sizes, in columns."""
    width = max(len(name) for name in sizes)
    return "\n".join(f"  {name:<{width}}  {format_size(size):>9}" for name, size in sizes.items())


@dataclass(frozen=True)
class Request:
    """What was asked for: `n_ctx` None means "as much as fits", `budget` None means no limit.

    `n_batch` and `n_ubatch` are upper limits; None means llama.cpp's defaults where all experts are in memory, and as
    many tokens as have room where they are not. `cache` is that of `resolve_cache`. `n_outputs_max` holds where experts
    are streamed: llama.cpp would reserve logits of every token of a batch, most of what it computes in.
    """

    n_ctx: int | None
    n_batch: int | None
    n_ubatch: int | None
    shape: ContextShape
    budget: int | None
    adapters: int = 0
    cache: int | float | str | None = None
    n_outputs_max: int = FEW_OUTPUTS

    @property
    def most_tokens(self) -> int:
        """At once, of a prompt that streams experts."""
        return self.n_ubatch or min(self.n_batch or LARGEST_BATCH, LARGEST_BATCH)


def resolve_memory(memory: int | str | None) -> int | None:
    """Bytes of `memory=`: None means no limit, "auto" what leaves the machine usable, a share is of all memory."""
    if memory is None:
        return None
    if memory == "auto":
        available = machine.available_memory()
        return machine.rss() + available - spare_memory(available)
    return parse_size(memory, whole=machine.total_memory())


def spare_memory(free: int) -> int:
    """What "auto" leaves to others of `free` bytes: a tenth of the machine, at least 512 MiB, at most half of them."""
    return min(max(machine.total_memory() // 10, 512 * MIB), max(free, 0) // 2)


def resolve_cache(cache: int | float | str, expert_bytes: int) -> int:
    """Bytes of `cache=`: a number of bytes, a size, or a share of the experts (0.25 or "25%")."""
    if isinstance(cache, float):
        if not 0 < cache <= 1:
            raise BudgetError(f"cache={cache} is no share of the experts: use more than 0 and at most 1.0, or bytes")
        return int(cache * expert_bytes)
    if isinstance(cache, str) and cache.rstrip().endswith("%") and parse_size(cache, whole=MIB) > MIB:
        raise BudgetError(f"cache={cache!r} is more than all experts: use at most 100%, or bytes")
    return parse_size(cache, whole=expert_bytes)


def margin(budget: int | None) -> int:
    """Bytes of a budget that are left alone, for what no figure foresees."""
    return max(_MARGIN, (budget or 0) // _MARGIN_SHARE)


def make_plan(summary: ModelSummary, planners: Planners, request: Request, *, baseline: int) -> Plan:
    """The plan with the most useful settings that fit the budget.

    Raises:
        BudgetError: when nothing fits; the message has the smallest budget that does, and who needs what.
    """
    builder = _Builder(summary, planners, request, baseline)
    if request.budget is None or planners.some_levels or summary.dense_bytes + summary.expert_bytes <= request.budget:
        n_ubatch = request.n_ubatch or DEFAULT_BATCH
        everything = builder.plan(builder.largest_ctx(), n_ubatch, embedding_on_disk=False, streamed=False)
        if request.budget is None or everything.comfortable <= request.budget:
            return builder.fit_cache(everything)
    on_disk = not summary.embedding_tied and summary.embedding_bytes > 0
    plan = builder.fit_ctx(request.budget, on_disk)
    plan = builder.fit_ubatch(plan, request.budget)
    if plan.smallest - plan.parts["margin"] > request.budget:
        raise BudgetError(
            f"a budget of {format_size(request.budget)} is too small for {summary.path.name}: "
            f"the smallest is {format_size(plan.smallest)}\n{plan.table()}"
        )
    return plan


def estimate_plan(summary: ModelSummary, planners: Planners, budget: int, n_ctx: int | None = None) -> Plan:
    """The plan of another process that opens the model with `budget`. Raises BudgetError as `make_plan` does."""
    from edgemoe.experts.planning import ContextShape

    shape = ContextShape(n_ctx=0, n_batch=0, n_ubatch=0)
    request = Request(n_ctx, None, None, shape, budget)
    return make_plan(summary, planners, request, baseline=_BASELINE)


class _Builder:
    def __init__(self, summary: ModelSummary, planners: Planners, request: Request, baseline: int) -> None:
        self._summary = summary
        self._planners = planners
        self._request = request
        self._baseline = baseline

    def largest_ctx(self) -> int:
        trained = self._summary.n_ctx_train or _SMALLEST_CTX
        return self._request.n_ctx or min(trained, _LARGEST_CTX)

    def plan(self, n_ctx: int, n_ubatch: int, *, embedding_on_disk: bool, streamed: bool = True) -> Plan:
        summary, request = self._summary, self._request
        planner = self._planners.get(embedding_on_disk)
        n_batch = min(request.n_batch or max(DEFAULT_BATCH, n_ubatch), n_ctx)
        outputs = max(request.n_outputs_max, request.shape.n_seq_max) if streamed and request.n_outputs_max else 0
        shape = replace(
            request.shape, n_ctx=n_ctx, n_batch=n_batch, n_ubatch=min(n_ubatch, n_batch), n_outputs_max=outputs
        )
        context = planner.context_memory(shape)
        row = 0 if shape.flash_attn else _WEIGHT_BYTES * summary.heads
        skipped = sum(t.bytes for t in self._planners.model.tensors if t.name in planner.skipped and not t.expert)
        parts = {
            "Python and libraries": self._baseline + _LOADING,
            "vocabulary": summary.vocabulary * _VOCABULARY_BYTES_PER_TOKEN,
            "dense weights": summary.dense_bytes - summary.embedding_bytes - skipped,
            "token embedding": 0 if embedding_on_disk else summary.embedding_bytes,
            "KV cache": context.state,
            "compute buffers": context.compute + context.output + self._expert_scratch(shape.n_ubatch),
            "attention": row * shape.n_ubatch * n_ctx,
            "working memory": _WORKING,
            "margin": margin(request.budget),
        }
        if request.adapters:
            parts["adapters"] = request.adapters
        used = summary.experts_used
        return Plan(shape, embedding_on_disk, parts, planner.minimum_cache(used), planner.full_cache(), row)

    def fit_ctx(self, budget: int, on_disk: bool) -> Plan:
        """The longest context whose state leaves enough for experts; the one asked for, if one was."""
        n_ctx = self.largest_ctx()
        while True:
            plan = self.plan(n_ctx, _SMALLEST_UBATCH, embedding_on_disk=on_disk)
            room = budget - plan.fixed + plan.parts["KV cache"] - plan.minimum_cache
            if self._request.n_ctx or n_ctx <= _SMALLEST_CTX or plan.parts["KV cache"] <= _STATE_SHARE * room:
                return plan
            n_ctx = max(_SMALLEST_CTX, n_ctx // 2)

    def fit_ubatch(self, plan: Plan, budget: int) -> Plan:
        """The largest batch whose buffers leave most of the memory to experts: experts are read once per batch."""
        n_ubatch = self._request.most_tokens
        while n_ubatch > _SMALLEST_UBATCH:
            candidate = self.plan(plan.shape.n_ctx, n_ubatch, embedding_on_disk=plan.embedding_on_disk)
            buffers, attention = candidate.parts["compute buffers"], candidate.parts["attention"]
            room = budget - candidate.fixed + buffers + attention - candidate.minimum_cache
            if buffers <= _COMPUTE_SHARE * room and buffers + attention <= _PROMPT_SHARE * room:
                return candidate
            n_ubatch //= 2
        return plan

    def fit_cache(self, plan: Plan) -> Plan:
        """With less `cache` than the experts, the largest batch whose buffers take no more than the cache."""
        if self._request.cache is None or self._request.n_ubatch:
            return plan
        cache = resolve_cache(self._request.cache, plan.full_cache)
        n_ubatch = min(self._request.most_tokens, plan.shape.n_ctx)
        while cache < plan.full_cache and n_ubatch > plan.shape.n_ubatch:
            candidate = self.plan(plan.shape.n_ctx, n_ubatch, embedding_on_disk=plan.embedding_on_disk)
            if candidate.parts["compute buffers"] + candidate.parts["attention"] <= cache:
                return candidate
            n_ubatch //= 2
        return plan

    def _expert_scratch(self, n_ubatch: int) -> int:
        """Bytes of converted inputs, gathered rows and results of one layer's experts, for a batch of `n_ubatch`."""
        used = max(self._summary.experts_used, 1)
        widest = 0
        for tensor in self._planners.model.tensors:
            if tensor.expert:
                columns, rows = tensor.shape[0], tensor.shape[1]
                widest = max(widest, 4 * (columns * used + columns + 2 * rows))
        return widest * n_ubatch


class Planners:
    """llama.cpp's own figures for one model, with the token embedding in memory or on disk."""

    def __init__(
        self,
        model: Any,
        n_gpu_layers: int = 0,
        kv_overrides: dict[str, Any] | None = None,
        top_level: int = len(LEVELS) - 1,
    ) -> None:
        self.model = model
        self._n_gpu_layers = n_gpu_layers
        self._kv_overrides = kv_overrides
        self._top_level = top_level
        self._planners: dict[bool, Planner] = {}

    @property
    def some_levels(self) -> bool:
        """Whether a pack's upper planes are left out, so that its size says little."""
        return self._top_level < len(LEVELS) - 1

    def get(self, embedding_on_disk: bool) -> Planner:
        if embedding_on_disk not in self._planners:
            from edgemoe.experts.planning import Planner

            self._planners[embedding_on_disk] = Planner(
                self.model,
                n_gpu_layers=self._n_gpu_layers,
                embedding_on_disk=embedding_on_disk,
                kv_overrides=self._kv_overrides,
                top_level=self._top_level,
            )
        return self._planners[embedding_on_disk]

    def __enter__(self) -> Planners:
        return self

    def __exit__(self, *_: object) -> None:
        for planner in self._planners.values():
            planner.close()
        self._planners.clear()


def smallest_budget(
    path: str | os.PathLike[str], *, n_ctx: int | None = None, top_level: int = len(LEVELS) - 1
) -> Plan:
    """The plan with the smallest budget that runs the model at `path`, with a context of `n_ctx` (default 512).

    Of a pack, planes up to the level of index `top_level` count (see experts.quality).

    Raises:
        ModelError, ReadError: as `open_model` does.
        BudgetError: for a dense model, which llama.cpp runs without a budget.
    """
    from edgemoe.experts.planning import ContextShape

    model = open_model(path)
    summary = summarize(path, model)
    if not summary.experts:
        raise BudgetError(f"{summary.path.name} has no experts: llama.cpp runs it as it is, and no budget applies")
    shape = ContextShape(n_ctx=0, n_batch=0, n_ubatch=_SMALLEST_UBATCH)
    request = Request(n_ctx or _SMALLEST_CTX, None, _SMALLEST_UBATCH, shape, budget=None)
    with Planners(model, top_level=top_level) as planners:
        builder = _Builder(summary, planners, request, _BASELINE)
        on_disk = not summary.embedding_tied and summary.embedding_bytes > 0
        return builder.plan(request.n_ctx or _SMALLEST_CTX, _SMALLEST_UBATCH, embedding_on_disk=on_disk)
