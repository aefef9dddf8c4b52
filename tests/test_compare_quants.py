"""The comparison of packs with quants: llama.cpp's quantizer under our calibration, figures, and going on."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from edgemoe import Llama
from edgemoe.bench.quality import measure_quality, tokenize
from edgemoe.bench.texts import ENGLISH
from edgemoe.packs.source import Source
from models import write_model

TOOL = Path(__file__).resolve().parents[1] / "tools" / "compare_quants.py"
TOKENS = 96
GAINS = 8 * 64 / 256**2
"""Bits that the gains of a matrix are to each of its weights."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quants")
    write_model(folder / "model.gguf", "qwen3moe", expert_type="F16", n_layer=1, n_expert=4)
    write_model(folder / "narrow.gguf", "qwen3moe", expert_type="F16", n_layer=1, n_expert=4, n_ff_exp=96)
    (folder / "text.txt").write_text(ENGLISH * 3)
    return folder


def compare(folder: Path, *arguments: object, model: str = "model.gguf") -> subprocess.CompletedProcess[str]:
    own = [folder / model, "--text", folder / "text.txt", "--calibrate", folder / "text.txt", "--tokens", TOKENS]
    command = [sys.executable, str(TOOL), *map(str, [*own, *arguments])]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, dict]:
    done = compare(folder, "--types", "Q2_K,Q6_K,IQ2_S", "--levels", "2,3,4,6", "--work", folder / "work", "--json")
    assert done.returncode == 0, done.stderr
    return {row["label"]: row for row in json.loads(done.stdout)}


def test_every_variant_is_measured(rows: dict[str, dict]) -> None:
    levels = [f"{name}, level {n}" for name in ("T16, GPTQ", "T16, calibrated", "T16") for n in (2, 3, 4, 6)]
    slices = [f"slices of Q6_K, level {n}" for n in (2, 3, 4, 6)]
    assert list(rows) == ["Q2_K", "Q6_K", "IQ2_S", *levels, *slices]
    for row in rows.values():
        assert row["kl_divergence"] > 0
        assert row["tokens"] == TOKENS - TOKENS // 2 - 1
    assert rows["Q2_K"]["bits"] == rows["Q2_K"]["stored"] == 2.625
    assert rows["T16, level 2"]["bits"] == pytest.approx(2.5625 + GAINS)
    assert rows["T16, GPTQ, level 2"]["bits"] == pytest.approx(2.625 + GAINS)  # row biases
    assert rows["T16, level 2"]["stored"] > 2.5625
    ratios = rows["T16, level 2"]["ratios"]
    assert ratios["Q2_K"] == pytest.approx(rows["T16, level 2"]["kl_divergence"] / rows["Q2_K"]["kl_divergence"])
    assert set(ratios) == {"Q2_K", "IQ2_S"}


def test_all_planes_of_slices_are_the_quant(rows: dict[str, dict]) -> None:
    sliced, quant = rows["slices of Q6_K, level 6"], rows["Q6_K"]
    assert sliced["ratios"] == {"Q6_K": 1.0}
    assert sliced["perplexity"] == quant["perplexity"]


def test_only_experts_are_quantized(folder: Path, rows: dict[str, dict]) -> None:
    with Source(folder / "model.gguf") as source, Source(rows["Q2_K"]["path"]) as quant:
        types = {tensor.name: tensor.type_name for tensor in source.tensors}
        for tensor in quant.tensors:
            assert tensor.type_name.upper() == ("Q2_K" if tensor.expert else types[tensor.name].upper())


def test_figures_are_those_of_both_models_side_by_side(folder: Path, rows: dict[str, dict]) -> None:
    row = rows["T16, GPTQ, level 3"]
    options = {"n_ctx": row["n_ctx"], "logits_all": True}
    with (
        closing(Llama(row["path"], quality="fixed:3", **options)) as llm,
        closing(Llama(folder / "model.gguf", **options)) as reference,
    ):
        tokens = tokenize(llm, (folder / "text.txt").read_text(), TOKENS)
        measured = measure_quality(llm, tokens, n_ctx=row["n_ctx"], reference=reference)
    assert {name: row[name] for name in dataclasses.asdict(measured)} == dataclasses.asdict(measured)


def test_an_interrupted_comparison_goes_on(folder: Path, rows: dict[str, dict]) -> None:
    work = folder / "work"
    times = {path: path.stat().st_mtime_ns for path in work.iterdir() if path.suffix != ".json"}
    figures = json.loads((work / "figures.json").read_text())
    lost = next(key for key, value in figures.items() if value["perplexity"] == rows["IQ2_S"]["perplexity"])
    (work / "figures.json").write_text(json.dumps({key: figures[key] for key in figures if key != lost}))
    done = compare(folder, "--types", "Q2_K,Q6_K,IQ2_S", "--levels", "2,3,4,6", "--work", work)
    assert done.returncode == 0, done.stderr
    assert json.loads((work / "figures.json").read_text())[lost] == figures[lost]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert "| T16, GPTQ, level 2 | 2.6328 |" in done.stdout
    assert f"the reference's perplexity is {rows['Q2_K']['reference_perplexity']:.3f}" in done.stdout


def test_types_that_rows_do_not_fit_are_left_out(folder: Path) -> None:
    done = compare(folder, "--types", "Q4_K,Q8_0", "--no-gptq", "--json", model="narrow.gguf")
    assert done.returncode == 0, done.stderr
    assert "Q4_K is left out" in done.stderr
    names = [row["name"] for row in json.loads(done.stdout)]
    assert list(dict.fromkeys(names)) == ["Q8_0", "T16, calibrated", "T16"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--types", "Q4_K,Q4_X"], "'Q4_X' is none of"),
        (["--levels", "2,4"], "'2,4' is not the beginning of 2,3,4,6"),
        (["--levels", "some"], "'some'"),
    ],
)
def test_bad_settings(folder: Path, arguments: list[str], message: str) -> None:
    done = compare(folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
