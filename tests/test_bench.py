"""Benchmarks: each setting in its own process, honest rows for what fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgemoe.bench.measure import Job, Measurement, measure, measure_all
from edgemoe.bench.tables import COLUMNS, markdown, plain
from edgemoe.bench.texts import ENGLISH, prompt_of, prompts_of
from edgemoe.cli import main
from edgemoe.errors import EdgeMoEError
from models import write_model

# Big enough experts that the budgets of the tests differ in what they hold.
SHAPE = {"expert_type": "F16", "n_layer": 4, "n_expert": 64, "n_embd": 512, "n_ff_exp": 512}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    [path] = write_model(tmp_path_factory.mktemp("model") / "model.gguf", "qwen3moe", **SHAPE)
    return path


def job(model: Path, label: str, **settings: Any) -> Job:
    common = {"prompt_tokens": 16, "tokens": 8, "repeat": 2, "ctx": 64, "text": ENGLISH, "threads": 1}
    return Job(label, str(model), **({"memory": label} | common | settings))


def test_a_smaller_budget_uses_less_memory_and_reads_more(model: Path) -> None:
    small, large, stock = measure_all(
        [job(model, "250MiB"), job(model, "1GiB"), job(model, "llama.cpp", memory=None, stock=True)]
    )
    for result in (small, large, stock):
        assert result.error is None
        assert result.load_seconds > 0
        assert result.time_to_first_token > 0
        assert result.prompt_tps == pytest.approx(16 / result.time_to_first_token)
        assert result.decode_tps > 0
    assert small.peak_bytes <= 250 << 20
    assert small.peak_bytes < large.peak_bytes
    assert small.hit_rate < 1
    assert small.bytes_per_token > 0
    assert large.hit_rate > small.hit_rate
    assert stock.hit_rate is None


def test_budget_that_is_too_small_is_a_row_with_its_reason(model: Path) -> None:
    refused, measured = measure_all([job(model, "20MiB"), job(model, "auto", repeat=1)])
    assert "too small" in refused.error
    assert refused.decode_tps is None
    assert measured.error is None
    assert "too small" in plain([refused, measured])
    with pytest.raises(EdgeMoEError, match="too small"):
        measure_all([job(model, "20MiB")])


def test_process_that_dies_is_a_row_with_its_reason(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "the process failed" in measure(job(model, "auto")).error


def test_progress_is_told_each_job(model: Path) -> None:
    told: list[str] = []
    with pytest.raises(EdgeMoEError):
        measure_all([job(model, "1MiB"), job(model, "2MiB")], lambda job: told.append(job.label))
    assert told == ["1MiB", "2MiB"]


def test_the_time_of_a_token_is_split(model: Path) -> None:
    result = measure(job(model, "250MiB", repeat=1))
    parts = [result.wait_seconds, result.expert_seconds, result.rest_seconds]
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(1 / result.decode_tps, rel=0.02)
    assert result.resident_bits is None


def test_experts_in_memory_are_told_on_request(model: Path) -> None:
    small, large = (measure(job(model, size, residency=True)) for size in ("250MiB", "1GiB"))
    means = []
    for result in (small, large):
        assert [len(bits) for bits in result.resident_bits.values()] == [64] * 4
        means.append(sum(map(sum, result.resident_bits.values())) / 256)
    assert 0 < means[0] < means[1] <= 16


def test_sequences_that_decode_together_read_less(model: Path) -> None:
    common = {"memory": "1GiB", "cache": "20%", "tokens": 6, "repeat": 1}
    one, many = (measure(job(model, "1GiB", sequences=n, **common)) for n in (1, 32))
    for result, count in ((one, 1), (many, 32)):
        assert result.error is None
        assert result.sequences == count
        assert result.sequence_tps == pytest.approx(result.decode_tps / count)
    assert many.bytes_per_token < 0.6 * one.bytes_per_token
    assert one.title == "cache 20%, 1 sequence"


class Letters:
    """A tokenizer of bytes."""

    def tokenize(self, text: bytes, add_bos: bool, special: bool) -> list[int]:
        return [0] * add_bos + list(text)


def test_prompts_of_sequences_are_different_pieces() -> None:
    prompts = prompts_of(Letters(), ENGLISH, 100, 5)
    assert [len(prompt) for prompt in prompts] == [100] * 5
    assert [prompt[0] for prompt in prompts] == [0] * 5
    assert b"".join(bytes(prompt[1:]) for prompt in prompts) == ENGLISH.encode()[: 5 * 99]
    assert len({bytes(prompt) for prompt in prompts_of(Letters(), "short text", 7, 5)}) == 5
    assert prompts_of(Letters(), "x", 1, 2) == [[0], [0]]


def test_prompt_has_the_wanted_length() -> None:
    for count in (1, 10, 5000):
        tokens = prompt_of(Letters(), ENGLISH, count)
        assert len(tokens) == count
        assert tokens.count(0) == 1


def test_tables() -> None:
    rows = [
        Measurement("2GiB", decode_tps=10.0, hit_rate=0.5, bytes_per_token=3 << 20, quality="exact"),
        Measurement("llama.cpp", error="killed"),
    ]
    unused = {"quality", "sequences", "tok/s each", "J/token", "above idle"}
    for table in (plain(rows), markdown(rows)):
        assert all(column in table for column in set(COLUMNS) - unused)
        assert not any(column in table for column in unused)
        assert "50.0%" in table
        assert "3.00 MiB" in table
        assert "llama.cpp: killed" in table
    assert markdown(rows).splitlines()[1].startswith("| --- | ---: |")
    rows.append(
        Measurement("2GiB", decode_tps=30.0, quality="fixed:2", sequences=4, joules_per_token=2.0, idle_watts=30.0)
    )
    assert all(column in plain(rows) for column in COLUMNS)
    assert "7.50" in plain(rows)
    assert any(line.split()[-2:] == ["2.00", "1.00"] for line in plain(rows).splitlines())


def test_command(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--memory", "20MiB, 1GiB", "--prompt-tokens", "8", "--tokens", "4", "--repeat", "1", "--json"]
    with pytest.raises(SystemExit) as left:
        main(["bench", str(model), *arguments])
    assert left.value.code == 0
    shown = capsys.readouterr()
    refused, measured = json.loads(shown.out)
    assert refused["error"]
    assert measured["label"] == "1GiB"
    assert measured["decode_tps"] > 0
    assert "[2/2] measuring 1GiB" in shown.err


def test_results_are_printed_in_one_way(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", str(model), "--json", "-o", "md"])
    assert left.value.code == 2
    assert "choose one of them" in capsys.readouterr().err


def test_energy_of_other_machines_is_not_measured(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", str(model), "--energy", "--ray"])
    assert left.value.code == 2
    assert "choose one of them" in capsys.readouterr().err
