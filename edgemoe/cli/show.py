"""`edgemoe show`: what a model is made of and how little memory runs it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from edgemoe.cli import options
from edgemoe.errors import BudgetError
from edgemoe.experts.quality import LEVELS
from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.budget import Plan
    from edgemoe.packs.summary import ModelSummary


@click.command(short_help="Show what a model is made of, and the least memory it needs.")
@click.argument("model", type=options.MODEL_FILE)
@options.ctx
@options.as_json
def command(model: str, ctx: int | None, as_json: bool) -> None:
    """Show what MODEL is made of, and the smallest memory budget that runs it.

    Of a pack: what it was made of, and what each of its levels costs and loses.

    Example: edgemoe show model.gguf
    """
    from edgemoe.cli.console import print_json, print_rows, quiet_library
    from edgemoe.packs.reader import is_pack
    from edgemoe.packs.summary import open_model, summarize

    quiet_library()
    opened = open_model(model)
    summary = summarize(model, opened)
    if is_pack(opened):
        plans = {level: _smallest(model, ctx, index) for index, level in enumerate(opened.levels)}
        _show_pack(summary, plans, as_json)
        return
    plan = _smallest(model, ctx)
    if as_json:
        print_json(_values(summary, plan))
    else:
        print_rows(_rows(summary, plan))


def _smallest(model: str, ctx: int | None, top_level: int = len(LEVELS) - 1) -> Plan | None:
    from edgemoe.budget import smallest_budget

    try:
        return smallest_budget(model, n_ctx=ctx, top_level=top_level)
    except BudgetError:
        return None  # a dense model: no budget applies


def _values(summary: ModelSummary, plan: Plan | None) -> dict[str, Any]:
    values = dataclasses.asdict(summary) | {"smallest_budget": None}
    if plan:
        values["smallest_budget"] = {
            "bytes": plan.smallest,
            "n_ctx": plan.shape.n_ctx,
            "parts": plan.parts,
            "minimum_cache": plan.minimum_cache,
            "comfortable": plan.comfortable,
        }
    return values


def _rows(summary: ModelSummary, plan: Plan | None) -> list[tuple[str, str]]:
    shards = f" in {len(summary.paths)} files" if len(summary.paths) > 1 else ""
    rows = [
        *_model_rows(summary),
        ("file", f"{format_size(summary.file_bytes)}{shards}"),
        ("dense part", f"{format_size(summary.dense_bytes)}: {_types(summary.dense_types)}"),
    ]
    if not summary.experts or plan is None:
        return [*rows, ("experts", "none: llama.cpp runs this model as it is")]
    budget = f"{format_size(plan.smallest)} with {plan.shape.n_ctx} tokens of context"
    return [
        *rows,
        ("experts", _experts(summary)),
        ("expert part", f"{format_size(summary.expert_bytes)}: {_types(summary.expert_types)}"),
        ("one token uses", f"{format_size(summary.working_set_bytes)} of experts"),
        ("smallest budget", f"{budget}; from {format_size(plan.comfortable)} on nothing is read twice"),
    ]


def _model_rows(summary: ModelSummary) -> list[tuple[str, str]]:
    return [
        ("name", summary.name),
        ("architecture", summary.architecture),
        ("layers", f"{summary.layers}, {summary.moe_layers} of them with experts"),
        ("context", f"{summary.n_ctx_train} tokens as trained"),
        ("vocabulary", f"{summary.vocabulary} tokens"),
    ]


def _experts(summary: ModelSummary) -> str:
    return f"{summary.experts} per layer, {summary.experts_used} used by a token"


def _show_pack(summary: ModelSummary, plans: dict[int, Plan | None], as_json: bool) -> None:
    from edgemoe.cli.console import print_json, print_rows
    from edgemoe.cli.pack import level_rows
    from edgemoe.packs.reader import Pack
    from edgemoe.packs.report import make_report

    with Pack(summary.path) as pack:
        report = make_report(pack)
        dense = sum(tensor.bytes for tensor in pack.dense)
        experts = sum(at.bytes for at in report.levels)
    if as_json:
        sizes = {"dense_bytes": dense, "expert_bytes": experts}
        budgets = {level: plan.smallest for level, plan in plans.items() if plan}
        model = dataclasses.asdict(summary) | {"pack": summary.path} | sizes
        print_json(model | {"smallest_budgets": budgets} | dataclasses.asdict(report))
        return
    formats = sorted({form for group in report.groups for form in group.formats.values()})
    rows = [
        *_model_rows(summary),
        ("source", f"{report.source}, XXH3-128 {report.source_xxh3}"),
        ("file", format_size(summary.file_bytes)),
        ("dense part", format_size(dense)),
        ("experts", _experts(summary)),
        ("expert part", f"{format_size(experts)} in {len(report.groups)} groups: {', '.join(formats)}"),
    ]
    print_rows([*rows, *level_rows(report.levels), *_budget_rows(plans)])


def _budget_rows(plans: dict[int, Plan | None]) -> list[tuple[str, str]]:
    found = [(level, plan) for level, plan in plans.items() if plan]
    smallest = ", ".join(f"{format_size(plan.smallest)} at level {level}" for level, plan in found)
    return [("smallest budget", f"{smallest}; {found[0][1].shape.n_ctx} tokens of context")] if found else []


def _types(types: dict[str, int]) -> str:
    """Bytes by tensor type, largest first."""
    ordered = sorted(types.items(), key=lambda item: -item[1])
    return ", ".join(f"{name.upper()} {format_size(size)}" for name, size in ordered)
