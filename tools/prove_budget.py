"""Proves a memory budget: runs a model in a control group limited to it, page cache included, and reads the peak.

    python tools/prove_budget.py MODEL --memory 60%,40%,25% --prompt-tokens 512 --tokens 200 --ctx 4096

A share is of the model file. Needs root and control groups of version 1 (/sys/fs/cgroup/memory).
"""

from __future__ import annotations

import json
import os
import sys

import click

from control_groups import HERE, MEMORY, memory_group, missing, run_in
from edgemoe.errors import EdgeMoEError
from edgemoe.sizes import format_size, parse_size

# Runs in the group: a prompt, tokens one by one, then a state round trip and log probabilities.
WORK = """
import json, sys
from edgemoe import Llama
path, budget, n_ctx, prompt, tokens = sys.argv[1], *map(int, sys.argv[2:6])
model = Llama(path, memory=budget, n_ctx=n_ctx)
ids = [(i * 7919) % (model.n_vocab() // 2) for i in range(prompt + tokens)]
model.eval(ids[:prompt])
for token in ids[prompt:]:
    model.eval([token])
state = model.save_state()
model.load_state(state)
del state
model("The cat sat", max_tokens=16, temperature=0.0, logprobs=3)
stats = model.stats()
print(json.dumps(dict(peak=stats.peak_bytes, cache=stats.cache_bytes, prompt_tps=stats.prompt_tps,
                      decode_tps=stats.decode_tps, hit_rate=stats.hit_rate,
                      n_ubatch=model._residence.plan.shape.n_ubatch)))
"""


def prove(model: str, budget: int, n_ctx: int, prompt: int, tokens: int) -> dict[str, object]:
    """Figures of one run; `killed` and `within` say how it ended."""
    with memory_group(budget) as group:
        arguments = [str(n) for n in (budget, n_ctx, prompt, tokens)]
        done = run_in([group], [sys.executable, "-c", WORK, os.path.abspath(model), *arguments], cwd=HERE)
        peak_of_group = int((group / "memory.max_usage_in_bytes").read_text())
    result: dict[str, object] = {"budget": budget, "killed": done.returncode == -9, "group_peak": peak_of_group}
    if done.returncode == 0:
        result |= json.loads(done.stdout.splitlines()[-1])
        result["within"] = result["peak"] <= budget
    else:
        result |= {"within": False, "error": done.stderr.strip().splitlines()[-8:]}
    return result


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--memory", default="60%,40%,25%", show_default=True, help="Budgets; a share is of the file.")
@click.option("--ctx", default=4096, show_default=True)
@click.option("--prompt-tokens", default=512, show_default=True)
@click.option("--tokens", default=200, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(model: str, memory: str, ctx: int, prompt_tokens: int, tokens: int, as_json: bool) -> None:
    if lacking := missing(MEMORY):
        raise click.UsageError(lacking)
    size = os.path.getsize(model)
    failed = False
    for share in memory.split(","):
        try:
            result = prove(model, parse_size(share, whole=size), ctx, prompt_tokens, tokens)
        except EdgeMoEError as error:
            raise click.UsageError(str(error)) from error
        failed |= not result["within"]
        if as_json:
            click.echo(json.dumps(result))
        else:
            peak = format_size(float(str(result.get("peak", 0))))
            verdict = "within" if result["within"] else f"FAILED {result.get('error', '')}"
            budget = format_size(float(str(result["budget"])))
            details = {k: v for k, v in result.items() if k in ("n_ubatch", "hit_rate", "prompt_tps", "decode_tps")}
            click.echo(f"{share:>8}  budget {budget:>9}  peak {peak:>9}  {verdict}  {details}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
