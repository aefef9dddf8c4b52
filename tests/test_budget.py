"""The memory budget on paper: sizes as people write them, and plans."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import llama_cpp
import pytest

from edgemoe import BudgetError, machine
from edgemoe.budget import Planners, Request, make_plan, margin, resolve_cache, resolve_memory
from edgemoe.experts.planning import ContextShape
from edgemoe.packs.summary import open_model, summarize
from edgemoe.sizes import format_size, parse_size

MIB = 1 << 20


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (123, 123),
        ("123", 123),
        ("7b", 7),
        ("2GiB", 2 << 30),
        (" 1.5 G ", 3 << 29),
        ("1.5gib", 3 << 29),
        ("800MB", 800_000_000),
        ("0.5k", 512),
        ("3T", 3 << 40),
        ("50%", 500),
        ("12.5 %", 125),
    ],
)
def test_sizes_are_understood(text: int | str, size: int) -> None:
    assert parse_size(text, whole=1000) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lots",
        "1 2",
        "-1",
        "0",
        "0%",
        "1e9",
        "GiB",
        "1XB",
        "5 %%",
        "٣GiB",
        "nan",
        "inf",
        ".5G",
        "9" * 400,
        True,
        None,
    ],
)
def test_what_is_no_size_is_refused(text: Any) -> None:
    with pytest.raises(BudgetError):
        parse_size(text, whole=1000)


def test_a_share_needs_a_whole() -> None:
    with pytest.raises(BudgetError, match="'50%'"):
        parse_size("50%")


def test_formatted_sizes_are_read_back() -> None:
    draw = random.Random(1)
    sizes = [1, 999, 1000, 1023, 1024, 10_239, *(int(2 ** draw.uniform(0, 42)) for _ in range(500))]
    for size in sizes:
        text = format_size(size)
        assert abs(parse_size(text) - size) <= max(1, 0.006 * size), text
        assert len(text.split()[0].replace(".", "")) <= 4 or text.endswith("GiB")
    assert [format_size(n) for n in (0, 1, 1536, 10 * MIB)] == ["0 B", "1 B", "1.50 KiB", "10.0 MiB"]


def test_memory_as_it_is_asked_for() -> None:
    assert resolve_memory(None) is None
    assert resolve_memory("3GiB") == 3 << 30
    assert resolve_memory(5 * MIB) == 5 * MIB
    assert resolve_memory("25%") == machine.total_memory() // 4
    auto = resolve_memory("auto")
    assert auto is not None
    assert machine.rss() < auto < machine.rss() + machine.available_memory()
    with pytest.raises(BudgetError):
        resolve_memory("automatic")


def test_cache_as_it_is_asked_for() -> None:
    assert resolve_cache(0.25, 1000) == 250
    assert resolve_cache(1.0, 1000) == 1000
    assert resolve_cache("25%", 1000) == 250
    assert resolve_cache("100%", 1000) == 1000
    assert resolve_cache("1k", 1000) == 1024
    assert resolve_cache(77, 1000) == 77
    for wrong in (0.0, -0.5, 1.01, float("nan"), "all", 0, "0%", "100.1%"):
        with pytest.raises(BudgetError):
            resolve_cache(wrong, 1000)


# Plans


@pytest.fixture(scope="module")
def planning(model_factory) -> Iterator[tuple[object, Planners]]:
    path = model_factory("qwen3moe", n_expert=64, n_ff_exp=512)[0]
    model = open_model(path)
    with Planners(model) as planners:
        yield summarize(path, model), planners


def plan_for(
    planning: tuple,
    *,
    n_ctx: int | None = 512,
    n_batch: int | None = 512,
    n_ubatch: int | None = 512,
    budget: int | None = None,
    cache: float | None = None,
    **shape: object,
):
    summary, planners = planning
    asked = replace(ContextShape(n_ctx=0, n_batch=0, n_ubatch=0), **shape)
    request = Request(n_ctx, n_batch, n_ubatch, asked, budget, cache=cache)
    return make_plan(summary, planners, request, baseline=60 * MIB)


def test_parts_add_up(planning: tuple) -> None:
    for budget in (None, 20 << 30, 180 * MIB):
        plan = plan_for(planning, budget=budget)
        assert all(size >= 0 for size in plan.parts.values())
        assert plan.fixed == sum(plan.parts.values())
        assert plan.smallest == plan.fixed + plan.minimum_cache <= plan.comfortable == plan.fixed + plan.full_cache
        assert plan.parts["margin"] == margin(budget)
        for name, size in (*plan.parts.items(), ("smallest budget", plan.smallest)):
            assert any(name in line and format_size(size) in line for line in plan.table().splitlines())


@pytest.mark.parametrize(
    "settings",
    [
        [{"n_ctx": n} for n in (64, 100, 512, 1000, 1024)],
        [{"n_ubatch": n} for n in (1, 32, 100, 256, 512)],
        [{"type_k": t} for t in (llama_cpp.GGML_TYPE_Q4_0, llama_cpp.GGML_TYPE_Q8_0, llama_cpp.GGML_TYPE_F16, 0)],
        [
            {"type_k": t, "type_v": t, "flash_attn": True}
            for t in (llama_cpp.GGML_TYPE_Q4_0, llama_cpp.GGML_TYPE_Q8_0, llama_cpp.GGML_TYPE_F16, 0)
        ],
    ],
    ids=["n_ctx", "n_ubatch", "type_k", "type_k and type_v"],
)
def test_more_never_needs_less(planning: tuple, settings: list[dict]) -> None:
    plans = [plan_for(planning, **setting) for setting in settings]
    for name in ("fixed", "smallest", "comfortable"):
        values = [getattr(plan, name) for plan in plans]
        assert values == sorted(values), name
        assert values[0] < values[-1], name


def test_a_larger_budget_never_gives_less(planning: tuple) -> None:
    refused, plans = [], []
    for budget in range(100 * MIB, plan_for(planning, n_ctx=None).smallest + 400 * MIB, 20 * MIB):
        try:
            plans.append(plan_for(planning, n_ctx=None, budget=budget))
        except BudgetError as error:
            refused.append(str(error))
            assert not plans, "a larger budget is refused where a smaller one works"
        else:
            assert plans[-1].smallest - plans[-1].parts["margin"] <= budget
    assert refused
    assert all("the smallest is" in message and "dense weights" in message for message in refused)
    for before, plan in itertools.pairwise(plans):
        assert plan.shape.n_ctx >= before.shape.n_ctx
        assert plan.embedding_on_disk <= before.embedding_on_disk
        assert plan.shape.n_ubatch >= before.shape.n_ubatch or plan.shape.n_ctx > before.shape.n_ctx
    assert plans[-1].shape.n_ctx == 1024
    assert not plans[-1].embedding_on_disk
    assert plans[0].embedding_on_disk


def test_prompts_that_stream_experts_have_large_batches(planning: tuple) -> None:
    automatic = {"n_ctx": 2048, "n_batch": None, "n_ubatch": None}
    everything = plan_for(planning, **automatic)
    assert everything.shape.n_batch == everything.shape.n_ubatch == 512
    budgets = [everything.smallest + extra * MIB for extra in range(20, 130, 10)]
    tight = [plan_for(planning, **automatic, budget=budget) for budget in budgets]
    batches = [plan.shape.n_ubatch for plan in tight]
    assert batches == sorted(batches)
    assert batches[-1] > 512
    assert all(plan.shape.n_batch == max(512, plan.shape.n_ubatch) for plan in tight)
    for plan, budget in zip(tight, budgets, strict=True):
        buffers, attention = plan.parts["compute buffers"], plan.parts["attention"]
        left = budget - plan.fixed + buffers + attention - plan.minimum_cache
        assert buffers <= 0.6 * left
        assert buffers + attention <= 0.85 * left
    budget = budgets[-1]
    asked = [{"n_batch": 256}, {"n_ubatch": 256}, {"n_batch": 1024, "n_ubatch": 256}]
    assert [plan_for(planning, **automatic | one, budget=budget).shape.n_ubatch for one in asked] == [256] * 3


def test_a_cache_of_its_own_size_makes_batches_large_too(planning: tuple) -> None:
    automatic = {"n_ctx": 2048, "n_batch": None, "n_ubatch": None}
    batches = []
    for cache in (0.1, 0.3, 0.6, 0.9):
        plan = plan_for(planning, **automatic, cache=cache)
        assert plan.shape.n_ubatch == 512 or plan.parts["compute buffers"] <= cache * plan.full_cache
        batches.append(plan.shape.n_ubatch)
    assert batches == sorted(batches)
    assert batches[-1] > 512
    assert plan_for(planning, **automatic, cache=1.0).shape.n_ubatch == 512
    assert plan_for(planning, **automatic | {"n_ubatch": 128}, cache=0.5).shape.n_ubatch == 128
