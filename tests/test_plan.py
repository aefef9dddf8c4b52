"""Planning: the roofline by hand, budgets and bytes against real models, measured machines kept, bad input refused."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgemoe import _native
from edgemoe.cli import main
from edgemoe.cli.plan import packing_advice
from edgemoe.errors import BudgetError, EdgeMoEError
from edgemoe.experts.trace import TraceWriter
from edgemoe.planning import kept
from edgemoe.planning.advice import COMFORTABLE, advise
from edgemoe.planning.forecast import Forecaster
from edgemoe.planning.locality import curve_of_trace, default_curve
from edgemoe.planning.machines import GIB, MACHINES, Machine
from edgemoe.planning.precision import mean_errors, mean_planes
from edgemoe.planning.roofline import NOT_HIDDEN, SAMPLING, STEPS_PER_LAYER, Work, prompt_time, token_time
from models import write_model

PACK = Path(__file__).resolve().parents[1] / "models" / "tinystories-moe.mwq.gguf"
SHAPE = {"expert_type": "F16", "n_layer": 4, "n_expert": 64, "n_embd": 512, "n_ff_exp": 512}
MIB = 1 << 20

MACHINE = Machine("test", "made up", 8 * GIB, 10e9, 20e9, 40e9, 1e9, 0.0)
WORK = Work(
    dense_bytes=100_000_000,
    dense_multiplications=100_000_000,
    expert_bytes=50_000_000,
    expert_multiplications=100_000_000,
    state_bytes=0,
    layers=10,
    vocabulary=0,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    [path] = write_model(tmp_path_factory.mktemp("model") / "model.gguf", "qwen3moe", **SHAPE)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which this machine's rates are kept from the first test on that needs them."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


# The roofline


def test_memory_binds_when_everything_is_resident() -> None:
    time = token_time(MACHINE, WORK, hit_rate=1.0)
    assert time.binds == "memory"
    assert time.total == pytest.approx(0.01 + 0.005)  # 100 and 50 MB at 10 GB/s
    assert time.bytes_read == 0


def test_compute_binds_when_products_are_slow() -> None:
    time = token_time(replace(MACHINE, dot_rate=1e9), WORK, hit_rate=1.0)
    assert time.binds == "compute"
    assert time.total == pytest.approx(0.2)


def test_threads_that_wait_for_each_other_count_as_compute() -> None:
    slow = token_time(replace(MACHINE, step=1e-3), WORK, hit_rate=1.0)
    assert slow.total == pytest.approx(0.015 + WORK.layers * STEPS_PER_LAYER * 1e-3)
    assert slow.binds == "compute"


def test_choosing_a_token_takes_time() -> None:
    assert token_time(MACHINE, replace(WORK, vocabulary=100_000), 1.0).total == pytest.approx(0.015 + 1e5 * SAMPLING)


def test_disk_binds_when_little_is_resident() -> None:
    time = token_time(MACHINE, WORK, hit_rate=0.2)
    assert time.binds == "disk"
    assert time.bytes_read == pytest.approx(40e6)
    assert time.read == pytest.approx(0.04)
    assert time.total == pytest.approx(0.04 + NOT_HIDDEN * 0.015)
    faster = token_time(replace(MACHINE, disk_bandwidth=1e12), WORK, hit_rate=0.2)
    assert faster.total == pytest.approx(0.015, rel=0.01)


def test_state_is_read_with_the_dense_part() -> None:
    longer = token_time(MACHINE, replace(WORK, state_bytes=100_000_000), hit_rate=1.0)
    assert longer.total == pytest.approx(0.025)


def test_prompts_are_bound_by_products_or_by_the_disk() -> None:
    assert prompt_time(MACHINE, WORK, 100, 0.0) == pytest.approx(100 * 200e6 / 40e9)
    assert prompt_time(MACHINE, WORK, 100, 10e9) == pytest.approx(10 + NOT_HIDDEN * 0.5)


def test_named_machines_can_be_told_apart() -> None:
    assert set(MACHINES) == {"pi5-nvme", "pi5-sd", "m1-air", "x86-laptop"}
    slow, fast = (token_time(MACHINES[name], WORK, 0.5).total for name in ("pi5-sd", "pi5-nvme"))
    assert slow > fast


# Hits


def test_typical_hits_grow_with_the_share_in_memory() -> None:
    shares = [i / 200 for i in range(201)]
    hits = [default_curve(share) for share in shares]
    assert hits[0] == 0
    assert hits[-1] == 1
    assert all(later > earlier for earlier, later in zip(hits, hits[1:], strict=False))
    assert default_curve(0.22) == pytest.approx(0.792)
    assert default_curve(0.165) == pytest.approx((0.595 + 0.792) / 2)
    assert default_curve(2.0) == 1.0


def trace_of(path: Path, events: list[tuple[int, int, list[int], list[int]]]) -> Path:
    writer = TraceWriter(path)
    writer.begin("test", [("blk.0.ffn", 8, 1000), ("blk.1.ffn", 8, 1000)])
    writer.write(events)
    writer.close()
    return path


def test_hits_of_a_trace(tmp_path: Path) -> None:
    """Layer 0 always uses expert 3, layer 1 takes all eight in turn."""
    singles = [event for i in range(160) for event in ((0, 1, [3], [1], [1.0]), (1, 1, [i % 8], [1], [1.0]))]
    curve = curve_of_trace(trace_of(tmp_path / "trace", [(0, 20, [5, 6], [10, 10], [5.0, 5.0]), *singles]))
    assert curve(0.0) == 0.0
    assert curve(1.0) == 1.0
    assert 0.5 <= curve(3 / 16) < 1.0  # the popular one always hits
    hits, misses = _native.replay(singles, [8, 8], 8, "decayed", 256.0, 160)
    assert curve(0.5) == pytest.approx(hits / (hits + misses))


def test_trace_without_generated_tokens_is_refused(tmp_path: Path) -> None:
    path = trace_of(tmp_path / "trace", [(0, 20, [1], [20], [9.0]), (1, 20, [1], [20], [9.0])])
    with pytest.raises(EdgeMoEError, match="no tokens that were generated"):
        curve_of_trace(path)


# Models


def test_bytes_and_products_of_a_token(model: Path) -> None:
    with Forecaster(model, default_curve, n_ctx=64) as forecaster:
        found = forecaster.forecast(MACHINE, GIB)
        work = forecaster._work("exact")
        summary = forecaster.summary
    assert work.expert_bytes == summary.working_set_bytes
    assert work.expert_multiplications == summary.working_set_bytes // 2  # F16
    assert work.dense_bytes == summary.dense_bytes - (0 if summary.embedding_tied else summary.embedding_bytes)
    assert work.layers == SHAPE["n_layer"]
    assert found.share == found.hit_rate == 1.0
    assert found.token.bytes_read == 0


def test_a_pack_takes_fewer_bytes_at_a_lower_level() -> None:
    with Forecaster(PACK, default_curve, n_ctx=64) as forecaster:
        assert forecaster.qualities == ["exact", "high", "balanced", "fast", "fixed:3", "fixed:2"]
        fixed, targets = ["exact", "fixed:3", "fixed:2"], ["exact", "high", "balanced", "fast"]
        works = [forecaster._work(quality) for quality in fixed]
        assert works[0].expert_bytes == pytest.approx(forecaster.summary.working_set_bytes, rel=0.01)
        assert works[0].expert_bytes > works[1].expert_bytes > works[2].expert_bytes
        assert len({work.expert_multiplications for work in works}) == 1
        slow = replace(MACHINE, disk_bandwidth=1e6)
        budget = forecaster.budget_for(0.2)
        for qualities in (fixed, targets):
            speeds = [forecaster.forecast(slow, budget, quality).token.per_second for quality in qualities]
            assert speeds == sorted(speeds)
            assert speeds[-1] > 1.2 * speeds[0]
        assert forecaster.packed(slow, budget) == {}
        with pytest.raises(EdgeMoEError, match="levels 2, 3, 4"):
            forecaster.forecast(slow, budget, "fixed:6")


def test_mean_planes() -> None:
    assert mean_planes("exact", ()) == 1
    assert [mean_planes(q, (2, 3, 4)) for q in ("fixed:2", "fixed:3", "fixed:4", "exact")] == [1, 2, 3, 3]
    with pytest.raises(EdgeMoEError, match="needs a pack"):
        mean_planes("fixed:2", ())


def test_mean_planes_of_targets() -> None:
    errors = (0.06, 0.015, 0.004)
    assert mean_planes("balanced", (), (), 8) == 1  # a file in one precision
    assert mean_planes("0.99", (2, 3, 4), errors, 8) == 1
    assert mean_planes("0.0001", (2, 3, 4), errors, 8) == 3
    planes = [mean_planes(quality, (2, 3, 4), errors, 8) for quality in ("high", "balanced", "fast")]
    assert planes == sorted(planes, reverse=True)
    assert 1 < planes[2] < planes[0] < 3
    # One expert a token: planes are added until its error is at most the target.
    assert [mean_planes(str(q), (2, 3, 4), errors, 1) for q in (0.07, 0.05, 0.01)] == [1, 2, 3]
    assert mean_errors(PACK) == sorted(mean_errors(PACK), reverse=True)


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_budget_for_a_share(model: Path, share: float) -> None:
    with Forecaster(model, default_curve, n_ctx=64) as forecaster:
        budget = forecaster.budget_for(share)
        assert forecaster.forecast(MACHINE, budget).share == pytest.approx(share, abs=0.001)
        assert forecaster.forecast(MACHINE, budget - MIB).share < share


def test_cache_is_what_a_real_model_gets(model: Path) -> None:
    """Where experts compete for memory, the estimate is close to what another process really has for them."""
    with Forecaster(model, default_curve, n_ctx=64) as forecaster:
        budget = forecaster.budget_for(0.5)
        planned = forecaster.forecast(MACHINE, budget)
    program = (
        "import sys; from edgemoe import Llama; "
        "llm = Llama(sys.argv[1], memory=int(sys.argv[2]), n_ctx=64, n_threads=1, verbose=False); "
        "llm.eval([1]); print(llm.stats().cache_bytes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model), str(budget)], capture_output=True, text=True, check=True
    )
    real = int(done.stdout.split()[-1])
    assert planned.share * planned.plan.full_cache == pytest.approx(real, abs=32 * MIB)


def test_advice_prefers_quality_that_is_fast_enough(model: Path) -> None:
    with Forecaster(PACK, default_curve, n_ctx=64) as forecaster:
        assert advise(forecaster, MACHINE).best.quality == "exact"
        budget = forecaster.budget_for(0.02)
        crawling = replace(MACHINE, disk_bandwidth=1e6)
        advice = advise(forecaster, crawling, budget)
        assert advice.best.quality == "fixed:2"
        assert advice.best.token.per_second < COMFORTABLE
        assert advise(forecaster, crawling, budget, "exact").best.quality == "exact"


def test_packing_is_advised_where_the_disk_binds(model: Path) -> None:
    with Forecaster(model, default_curve, n_ctx=64) as forecaster:
        slow = replace(MACHINE, disk_bandwidth=20e6)
        advice = advise(forecaster, slow, forecaster.budget_for(0.1))
        assert (advice.best.token.binds, set(advice.packed)) == ("disk", {2, 3, 4, 6})
        assert "edgemoe pack --levels 2,3,4,6" in packing_advice(forecaster, advice)  # the source has 16 bits
        assert all(f.share > advice.best.share for f in advice.packed.values())


# Measuring


def test_machine_is_measured_once(model: Path, cache: Path) -> None:
    first = kept.this_machine(model)
    for rate in (first.memory_bandwidth, first.dot_rate, first.prompt_rate, first.disk_bandwidth, first.step):
        assert math.isfinite(rate)
        assert rate > 0
    assert kept.profile_path() == cache / "edgemoe" / "machine.msgpack"
    assert kept.this_machine(model) == first
    assert kept.this_machine(model, disk=5e8) == replace(first, disk_bandwidth=5e8)
    again = kept.this_machine(model, again=True)
    assert again != first
    assert kept.this_machine(model) == again


@pytest.mark.parametrize("damaged", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa7version\x01", b"\x81\xa7version\x07"])
def test_damaged_profile_is_measured_anew(damaged: bytes, model: Path, cache: Path) -> None:
    kept.this_machine(model)
    kept.profile_path().write_bytes(damaged)
    machine = kept.this_machine(model)
    assert kept.this_machine(model) == machine


def test_kept_rates_that_make_no_sense_are_measured_anew(model: Path) -> None:
    import msgpack

    good = kept.this_machine(model)
    path = kept.profile_path()
    content = msgpack.unpackb(path.read_bytes())
    for machine in content["machines"].values():
        machine["memory_bandwidth"] = -1.0
    for disk in content["disks"]:
        content["disks"][disk] = "fast"
    path.write_bytes(msgpack.packb(content))
    machine = kept.this_machine(model)
    assert machine.memory_bandwidth > 0
    assert machine.disk_bandwidth > 0
    assert machine != good


def test_unwritable_folder_is_no_error(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kept.this_machine(model, disk=1e9).dot_rate > 0


# The verb


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["plan", *map(str, arguments)])
    shown = capsys.readouterr()
    return int(left.value.code or 0), shown.out, shown.err


def test_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, model, "--ctx", 64)
    assert code == 0
    for shown in ("this machine", "of experts", "decode tok/s", "25%", "50%", "75%", "100%", "recommended", "packing"):
        assert shown in out
    for machine in MACHINES.values():
        assert machine.description in out


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, model, "--ctx", 64, "--json", "--disk", "1MB/s")
    assert code == 0
    values = json.loads(out)
    assert values["machine"]["disk_bandwidth"] == 1e6
    shares = [row["experts_share"] for row in values["forecasts"]]
    assert shares[1:] == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.01)
    speeds = [row["decode_tps"] for row in values["forecasts"]]
    assert speeds == sorted(speeds)
    assert values["forecasts"][0]["binds"] == "disk"
    assert set(values["machines"]) == set(MACHINES)


def test_named_machine_is_not_measured(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, out, _ = run(capsys, model, "--machine", "pi5-sd", "--memory", "1GiB", "--ctx", 64, "--json")
    assert code == 0
    values = json.loads(out)
    assert values["machine"]["disk_bandwidth"] == 85e6
    [row] = values["forecasts"]
    assert row["memory_bytes"] == GIB
    assert not list(tmp_path.iterdir())


def test_trace_of_a_real_chat(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        "import sys; from edgemoe import Llama; "
        "llm = Llama(sys.argv[1], memory=None, n_ctx=64, n_threads=1, verbose=False, trace=sys.argv[2]); "
        "[llm.eval([i]) for i in range(1, 33)]; llm.close()"
    )
    path = tmp_path / "trace"
    subprocess.run([sys.executable, "-c", program, str(model), str(path)], check=True, capture_output=True)
    arguments = (model, "--machine", "m1-air", "--ctx", 64, "--json")
    traced = json.loads(run(capsys, *arguments, "--trace", path)[1])
    typical = json.loads(run(capsys, *arguments)[1])
    hits = [[row["hit_rate"] for row in values["forecasts"]] for values in (traced, typical)]
    assert hits[0] != hits[1]
    assert hits[0] == sorted(hits[0])


def test_the_engine_is_not_loaded(model: Path) -> None:
    program = (
        "import sys; from edgemoe.cli import main\n"
        "try: main(['plan', *sys.argv[1:]])\n"
        "except SystemExit as left: assert not left.code\n"
        "loaded = {'edgemoe.llama', 'edgemoe.chat'} & set(sys.modules); assert not loaded, loaded\n"
    )
    arguments = [str(model), "--machine", "m1-air", "--ctx", "64"]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, env=os.environ, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--machine", "cray-1"], "'cray-1' is not known: use this, pi5-nvme, pi5-sd, m1-air, x86-laptop"),
        (["--machine", "m1-air", "--disk", "fast"], "'fast' is no speed: use text such as 500MB/s"),
        (["--machine", "m1-air", "--disk", "0MB/s"], "'0MB/s' is no speed"),
        (["--machine", "m1-air", "--disk", "50%"], "'50%' is no speed"),
        (["--machine", "m1-air", "--memory", "20MiB"], "a budget of 20.0 MiB is too small"),
        (["--machine", "m1-air", "--memory", "lots"], "'lots' is not a size"),
        (["--machine", "m1-air", "--quality", "best"], "quality='best' is unknown"),
        (["--machine", "m1-air", "--quality", "fixed:2"], "needs a pack"),
        (["--machine", "m1-air", "--quality", "bits:3"], "needs a pack"),
        (["--machine", "m1-air", "--trace", __file__], "is no trace"),
    ],
)
def test_bad_input(model: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, model, *arguments)
    assert code == 2
    assert reason in err
    assert not out


def test_dense_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [dense] = write_model(tmp_path / "dense.gguf", "llama")
    with pytest.raises(BudgetError, match="no experts"):
        Forecaster(dense, default_curve)
    code, _, err = run(capsys, dense)
    assert code == 2
    assert "no experts" in err
