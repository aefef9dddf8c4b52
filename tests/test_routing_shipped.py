"""The prompt router that comes with edgemoe: its card, its figures, and the same numbers on every machine."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from edgemoe import EdgeMoEError, Router
from edgemoe.default_model import prompts_path, router_path
from edgemoe.routing.evaluation import answered, evaluate_benchmarks
from edgemoe.routing.local_or_cloud import Comparison
from test_routing_features import NASTY

ROOT = Path(__file__).resolve().parents[1]
CARD = (ROOT / "models/router.md").read_text()
DATA = ROOT.parent / "shared/data/router"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the collected data is not beside this checkout")


def digest_of_logits() -> str:
    """Of the bits of all logits of nasty texts and of prompts."""
    router = Router()
    texts = [*NASTY.values(), *(json.loads(line)["text"] for line in prompts_path().read_text().split("\n") if line)]
    logits = [z for text in texts for z in router.logits(text)]
    return xxhash.xxh3_128_hexdigest(struct.pack(f"<{len(logits)}d", *logits))


def in_card(name: str) -> str:
    found = re.search(rf"^\| {re.escape(name)} \| `?([^`|]+?)`? \|", CARD, re.MULTILINE)
    assert found, f"models/router.md has no row {name}"
    return found[1]


def test_the_card_is_of_this_file() -> None:
    assert in_card("XXH3-128 of the file") == xxhash.xxh3_128_hexdigest(router_path().read_bytes())


def test_logits_are_those_of_every_machine() -> None:
    assert digest_of_logits() == in_card("XXH3-128 of its logits")


def test_logits_do_not_depend_on_the_process() -> None:
    """With other threads and another hash seed: the same bits."""
    code = "from test_routing_shipped import digest_of_logits; print(digest_of_logits())"
    environment = os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "tests", env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == in_card("XXH3-128 of its logits")


def test_every_source_in_the_card_has_a_licence() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (\d[\d,]*) \| ([^|]+) \| ([^|]+) \|$", CARD, re.MULTILINE)
    assert len(rows) > 15
    assert all(licence.strip() for _, _, licence, _ in rows)
    total = sum(int(count.replace(",", "")) for _, count, _, _ in rows)
    assert total == Router().description["about"]["rows"]


@needs_data
def test_figures_of_the_card_hold() -> None:
    router = Router()
    gqr = evaluate_benchmarks(router, DATA)["gqr"]
    routing = Comparison(router, answered(DATA)).figures()
    for name, value in (
        ("GQR, official", gqr["gqr"]),
        ("GQR, own ID test", gqr["gqr own"]),
        ("APGR, RouteLLM's MMLU", routing["sets"]["routellm_mmlu"]["router"]["APGR"]),
        ("APGR, mean of five sets", routing["mean"]["router"]["APGR"]),
    ):
        assert f"{value:.3f}" == in_card(name), name


@needs_data
def test_prompts_to_calibrate_with_are_no_test_rows() -> None:
    tests = set()
    for path in DATA.glob("*.jsonl"):
        for line in path.read_text().rstrip("\n").split("\n"):
            row = json.loads(line)
            if row.get("split", "test") == "test":
                tests.add(row["text"])
    assert len(tests) > 10_000
    assert not tests & {json.loads(line)["text"] for line in prompts_path().read_text().rstrip("\n").split("\n")}


def test_a_folder_without_the_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeMoEError, match=r"gqr_ood_official\.jsonl cannot be read"):
        evaluate_benchmarks(Router(), tmp_path)
