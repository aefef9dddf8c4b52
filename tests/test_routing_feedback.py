"""Feedback: what the bandit learns where the truth is known, its budget, its file when processes are killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest
from click.testing import CliRunner

from edgemoe import EdgeMoEError, ReadError, WriteError
from edgemoe.cli import cli
from edgemoe.config import Config
from edgemoe.routing.export import to_onnx
from edgemoe.routing.feedback import Bandit, price_of
from edgemoe.routing.feedback_state import SIZE
from edgemoe.routing.learner import Learner
from edgemoe.routing.regression import MOST_ROUTES, Regression
from edgemoe.routing.router import Router
from edgemoe.routing.rows import Row
from edgemoe.routing.simulation import routes_of, simulate, stream_of
from edgemoe.routing.training import Options, train_router
from test_routing_training import HASHING, prompts

LOCAL = {"food": 0.9, "cars": 0.1, "none": 0.5}
"""How often a local model is right. The one whose answers the router was trained on failed at long prompts instead."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("router") / "router.onnx"
    path.write_bytes(to_onnx(train_router(prompts(0), HASHING, Options()), {}))
    return path


@pytest.fixture
def router(path: Path) -> Router:
    return Router(path)


def rated_rows(count: int, seed: int = 3) -> list[Row]:
    draw = random.Random(seed)
    rows = []
    for row in prompts(seed, count):
        right = [draw.random() < share for share in (LOCAL[str(row.labels["domain"])], 0.9, 0.3)]
        rows.append(Row(row.text, {}, weak=right[0], strong=right[1], scores=(right[2], right[0], right[1])))
    return rows


# Learning


def test_feedback_beats_the_threshold_and_regret_falls(router: Router) -> None:
    stream = stream_of(router, rated_rows(1200), routes_of([], []))
    found = simulate(router, stream, budget=1 / 3, orders=3)
    assert found["gain over static"] > 5 * found["standard error"] > 0
    first, *_, last = found["regret"]["feedback"]
    assert last < first / 2
    assert last < found["regret"]["static"][-1] / 3
    quality = found["quality"]
    assert quality["static"] < quality["feedback"] < quality["hindsight"] + 0.02 < quality["oracle"]
    assert found["cloud share"] == pytest.approx(1 / 3, abs=0.03)


def test_the_better_of_two_local_models_is_found(router: Router) -> None:
    stream = stream_of(router, rated_rows(600), routes_of([0, 1], [2]))
    found = simulate(router, stream, budget=0.2, orders=2)
    assert found["gain over static"] > 0.1


def test_without_ratings_the_threshold_decides(router: Router) -> None:
    stream = stream_of(router, rated_rows(600), routes_of([], []))
    found = simulate(router, stream, budget=0.3, orders=2, rated=0.0)
    assert abs(found["gain over static"]) < 0.03


def test_the_regression_is_ridge_regression() -> None:
    """The same numbers as its closed form, written out."""
    draw = np.random.default_rng(1)
    regression, size = Regression(3), 3
    rows, surprises = [], []
    for i in range(60):
        x, surprise = np.append(1.0, draw.normal(size=2)), float(draw.normal())
        regression.add(x, "ab"[i % 2], surprise)
        rows.append(np.concatenate([x, x * (i % 2 == 0), x * (i % 2 == 1)]))
        surprises.append(surprise)
    features, prior = np.array(rows), np.diag([3.0, 30, 30, 5, 240, 240, 5, 240, 240])
    inverse = np.linalg.inv(features.T @ features + prior)
    theta = inverse @ features.T @ np.array(surprises)
    expected = np.stack([theta[:size] + theta[size : 2 * size], theta[:size] + theta[2 * size :]], axis=1)
    assert regression.weights(["a", "b"]) == pytest.approx(expected)
    assert regression.deviation(rows[0][:size], "a") == pytest.approx(float(np.sqrt(rows[0] @ inverse @ rows[0])))


def test_prices_spend_what_is_allowed() -> None:
    draw = np.random.default_rng(1)
    scores, costs = draw.random((500, 3)), np.tile([0.0, 1.0, 2.5], (500, 1))
    for allowed in (0.0, 0.1, 0.5, 1.2):
        chosen = (scores - price_of(scores, costs, allowed) * costs).argmax(axis=1)
        assert allowed - 0.02 < costs[0][chosen].mean() <= allowed
    assert price_of(scores, costs, 2.5) == 0


def test_a_bad_answer_counts_against_its_route(router: Router) -> None:
    bandit = Bandit(router)
    x = bandit.embed("the soup and the oven")
    priors, costs = {"here": 0.6, "there": 0.7}, {"here": 0.0, "there": 1.0}
    assert bandit.scores(x, priors) == priors
    assert bandit.choose(x, priors, costs, budget=0.2, price=0.5).route == "here"
    assert bandit.choose(x, priors, costs, budget=0.2, price=0.05).route == "there"
    for _ in range(20):
        bandit.update(x, "here", 0.6, 0.0)
    scores = bandit.scores(x, priors)
    assert scores["here"] < 0.3
    assert bandit.choose(x, priors, costs, budget=0.2, price=0.3).route == "there"
    assert bandit.ratings == 20


def test_what_cannot_be(router: Router) -> None:
    bandit = Bandit(router)
    x = bandit.embed("")
    assert x.shape == (SIZE,)
    for reward in (-0.1, 1.1, float("nan")):
        with pytest.raises(EdgeMoEError, match="a reward is from 0"):
            bandit.update(x, "here", 0.5, reward)
    with pytest.raises(EdgeMoEError, match="a prior and a cost"):
        bandit.choose(x, {"here": 0.5}, {}, budget=1.0, price=0.0)
    for i in range(MOST_ROUTES):
        bandit.update(x, f"route {i}", 0.5, 1.0)
    with pytest.raises(EdgeMoEError, match="no room for one more"):
        bandit.update(x, "one more", 0.5, 1.0)


@pytest.mark.parametrize("prompt", ["", "😀" * 100_000, "\x00\xff" * 1000, "a" * 1_000_000], ids=lambda p: p[:3])
def test_any_prompt_has_an_embedding(router: Router, prompt: str) -> None:
    x = Bandit(router).embed(prompt)
    assert np.isfinite(x).all()
    assert np.linalg.norm(x) < 6


# The file


def learned(path: Path, router: Router, times: int = 5) -> Bandit:
    bandit = Bandit.load(path, router)
    x = bandit.embed("the soup and the oven")
    for _ in range(times):
        bandit.choose(x, {"here": 0.6, "there": 0.7}, {"here": 0.0, "there": 1.0}, budget=0.2, price=0.2)
        bandit.update(x, "here", 0.6, 1.0)
    return bandit


def test_what_was_learned_is_kept(tmp_path: Path, router: Router) -> None:
    bandit = learned(tmp_path / "new" / "state", router, 80)
    bandit.save()
    again, x = Bandit.load(tmp_path / "new" / "state", router), bandit.embed("the brake")
    priors, costs = {"here": 0.5, "there": 0.6}, {"here": 0.0, "there": 1.0}
    assert again.scores(x, priors) == pytest.approx(bandit.scores(x, priors))
    ours, theirs = (b.choose(x, priors, costs, budget=0.2, price=9.0) for b in (bandit, again))
    assert ours.route == theirs.route
    assert ours.price == pytest.approx(theirs.price, abs=1e-4)
    assert again.ratings == 80


def test_processes_add_to_what_others_learned(tmp_path: Path, router: Router) -> None:
    one, other = learned(tmp_path / "state", router, 3), learned(tmp_path / "state", router, 4)
    one.save()
    other.save()
    other.save()
    assert other.ratings == Bandit.load(tmp_path / "state", router).ratings == 7


def test_a_rating_that_cannot_be_saved_is_not_learned(tmp_path: Path, router: Router) -> None:
    state, lock = tmp_path / "feedback.msgpack", tmp_path / "feedback.msgpack.lock"
    learner = Learner(Config(state=tmp_path), router)
    learner.rate("the soup", 0.5, "local", good=True)
    before = learner.strong("the soup", 0.5)
    lock.unlink()
    lock.mkdir()
    for _ in range(3):
        with pytest.raises(WriteError, match="lock cannot be made"):
            learner.rate("the soup", 0.5, "local", good=False)
        assert learner.strong("the soup", 0.5) == before
    learner.save()  # there is nothing to save
    lock.rmdir()
    assert learner.rate("the soup", 0.5, "local", good=False) == 2
    assert Bandit.load(state, router).ratings == 2


def test_the_largest_file(tmp_path: Path, router: Router) -> None:
    bandit, draw = Bandit(router, tmp_path / "state"), random.Random(1)
    names = [f"a route with a rather long name, number {i}" for i in range(MOST_ROUTES)]
    for row in prompts(1, 300):
        x = bandit.embed(row.text)
        bandit.choose(x, dict.fromkeys(names, 0.5), dict.fromkeys(names, 0.1), budget=0.2, price=0.2)
        bandit.update(x, draw.choice(names), 0.5, 1.0)
    bandit.save()
    assert (tmp_path / "state").stat().st_size < 1_000_000


def test_files_that_cannot_be_used(tmp_path: Path, router: Router) -> None:
    state = tmp_path / "state"
    learned(state, router).save()
    whole = state.read_bytes()
    later = msgpack.packb(msgpack.unpackb(whole) | {"format": 99})
    for damaged, said in ((whole[:-1], "damaged"), (b"", "damaged"), (b"\xc0", "damaged"), (later, "format 99")):
        state.write_bytes(damaged)
        with pytest.raises(ReadError, match=said):
            Bandit.load(state, router)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    state.write_bytes(flipped)
    with pytest.raises(ReadError, match="is damaged: reset it"):
        Bandit.load(state, router)
    state.write_bytes(whole)
    assert Bandit.load(state, router).ratings == 5


def test_another_router(tmp_path: Path, router: Router) -> None:
    learned(tmp_path / "state", router).save()
    other = tmp_path / "other.onnx"
    other.write_bytes(to_onnx(train_router(prompts(9), HASHING, Options()), {}))
    with pytest.raises(ReadError, match="belongs to another router"):
        Bandit.load(tmp_path / "state", Router(other))


def test_reset(tmp_path: Path, router: Router) -> None:
    bandit = learned(tmp_path / "state", router)
    bandit.save()
    bandit.reset()
    assert bandit.ratings == Bandit.load(tmp_path / "state", router).ratings == 0
    assert not (tmp_path / "state").exists()


LEARNS = """
import sys
from edgemoe.routing.feedback import Bandit
from edgemoe.routing.router import Router
bandit = Bandit.load(sys.argv[1], Router(sys.argv[2]))
x = bandit.embed("the soup")
while True:
    bandit.update(x, "here", 0.5, 1.0)
    bandit.save()
    print("saved", flush=True)
"""


def test_a_killed_process_loses_nothing_that_was_saved(tmp_path: Path, path: Path, router: Router) -> None:
    state, saved = tmp_path / "state", 0
    command = [sys.executable, "-c", LEARNS, str(state), str(path)]
    for lines in (1, 20):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        saved += lines + len(process.communicate()[0].splitlines())
        assert 0 <= Bandit.load(state, router).ratings - saved <= 1
        saved = Bandit.load(state, router).ratings


# The command


def test_the_command(tmp_path: Path, path: Path) -> None:
    data = tmp_path / "rated.jsonl"
    lines = [{"text": r.text, "weak": int(r.weak or 0), "strong": int(r.strong or 0)} for r in rated_rows(300)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["route", "simulate", str(data), "--router", str(path), "--orders", "2"]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 0, shown.output
    assert "300 prompts in 2 orders" in shown.output
    assert "gain over the threshold" in shown.output
    found = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).output)
    assert found["prompts"] == 300
    refused = CliRunner().invoke(cli, [*arguments, "--local", "7"])
    assert "only 0 of 300 lines have scores of local 7" in str(refused.exception)
