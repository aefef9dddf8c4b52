"""Who should answer: thresholds for a share of prompts and for a budget, and curves of cost and quality."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgemoe import ConfigError, EdgeMoEError, Router
from edgemoe.cli import cli
from edgemoe.cloud import Endpoint
from edgemoe.config import CloudModel, Config, LocalModel, load_config, store_threshold
from edgemoe.config.template import TEMPLATE
from edgemoe.default_model import prompts_path
from edgemoe.routing.decider import Decider
from edgemoe.routing.learner import Learner
from edgemoe.routing.local_or_cloud import Answered, Comparison, auc, recovered, summary
from edgemoe.routing.policy import Facts, decide
from edgemoe.routing.threshold import for_cost, for_share, priced, weighed
from routers import EASY_STORY


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["route", *map(str, arguments)])


# Thresholds


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.999, 1.0])
def test_a_threshold_sends_the_share_that_was_asked_for(seed: int, share: float) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.beta(1, 4, size=997).tolist()
    found = for_share(scores, share)
    assert found.share == pytest.approx(share, abs=0.51 / 997)
    assert sum(score >= found.value for score in scores) == round(found.share * 997)
    assert found.prompts == 997


def test_equal_scores_stay_together() -> None:
    found = for_share([0.5] * 6 + [0.1] * 4, 0.3)
    assert (found.value, found.share) == (1.0, 0.0)
    found = for_share([0.5] * 3 + [0.1] * 7, 0.4)
    assert found.share == 0.3
    assert 0.1 < found.value <= 0.5


def test_close_scores_are_told_apart() -> None:
    found = for_share([0.1234567891, 0.1234567892], 0.5)
    assert 0.1234567891 < found.value <= 0.1234567892


@pytest.mark.parametrize("allowed", [0.0, 1.0, 7.5, 1e9])
def test_a_budget_is_kept_to_and_used(allowed: float) -> None:
    draw = np.random.default_rng(3)
    scores, costs = draw.random(500), draw.random(500) * 40
    found = for_cost(scores.tolist(), costs.tolist(), allowed)
    sent = scores >= found.value
    assert costs[sent].sum() / 500 == pytest.approx(found.cost)
    assert found.cost <= allowed
    if not sent.all():
        dearer = costs[sent].sum() + costs[np.flatnonzero(~sent)[scores[~sent].argmax()]]
        assert dearer / 500 > allowed


def test_a_price_is_that_of_prompt_and_answer() -> None:
    settings = priced(Config(), 2.0, 10.0)
    _, [cost, more] = weighed(settings, Router(), ["x" * 4000, "x" * 8000])
    assert cost == pytest.approx((1000 * 2 + 300 * 10) / 1e6, rel=0.01)
    assert more - cost == pytest.approx(1000 * 2 / 1e6)
    twice = CloudModel("big", Endpoint("big", "https://example.com/v1", "m", input_price=4.0, output_price=20.0))
    assert weighed(Config(cloud={"big": twice}, private=True), Router(), ["x" * 4000])[1] == [pytest.approx(2 * cost)]
    assert weighed(priced(Config(cloud={"big": twice}), 2.0, 10.0), Router(), ["x" * 4000])[1] == [cost]


@pytest.mark.parametrize("ability", [0.0, 0.3, 0.5, 0.9])
def test_the_policy_sends_the_share_that_was_calibrated(tmp_path: Path, ability: float) -> None:
    """Whatever the local models are able to, each in its domain."""
    router = Router()
    texts = [json.loads(line)["text"] for line in prompts_path().read_text().splitlines()][:300]
    local = {
        "small": LocalModel("small", ability=ability),
        "coder": LocalModel("coder", ability=0.7, domains=("code",)),
    }
    settings = priced(Config(local=local, state=tmp_path), 1.0, 2.0)
    found = for_share(weighed(settings, router, texts)[0], 0.2)
    chosen = dataclasses.replace(settings, threshold=found.value, unsafe_threshold=1.0)
    classified = map(router.classify, texts)
    routes = [decide(chosen, Facts(of.choices, of.scores)).route for of in classified]
    assert routes.count("cloud") / 300 == found.share == pytest.approx(0.2, abs=0.01)


def test_what_feedback_taught_is_calibrated_with(router_file: Path, tmp_path: Path) -> None:
    settings = priced(Config(state=tmp_path, router=router_file), 1.0, 2.0)
    router = Router(router_file)
    [before], _ = weighed(settings, router, [EASY_STORY])
    learner = Learner(settings, router)
    for _ in range(5):
        learner.rate(EASY_STORY, before, "local", good=False)
    [after], _ = weighed(settings, router, [EASY_STORY])
    assert after == Decider(settings, router).facts(EASY_STORY).strong != before


# The command


def test_a_share_of_the_prompts_that_come_with_edgemoe() -> None:
    found = json.loads(run("calibrate", "--cloud-share", 0.2, "--json").stdout)
    texts = [json.loads(line)["text"] for line in prompts_path().read_text().splitlines()]
    router = Router()
    sent = [(router.classify(text).strong_probability or 0) >= found["value"] for text in texts]
    assert found["prompts"] == len(texts) > 500
    assert sum(sent) / len(sent) == pytest.approx(0.2, abs=0.002) == pytest.approx(found["share"], abs=0.002)


def test_a_budget_of_own_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    draw = random.Random(0)
    path.write_text("".join(json.dumps({"text": "why " * draw.randint(1, 300)}) + "\n" for _ in range(200)))
    day = ("--output-price", 10, "--input-price", 1, "--prompts-per-day", 1000, "--answer-tokens", 100)
    found = json.loads(run("calibrate", path, "--budget", "0.5/day", *day, "--json").stdout)
    assert 0 < found["share"] < 1
    assert 0.47 < found["cost a day"] <= 0.5
    monthly = json.loads(run("calibrate", path, "--budget", "15/month", *day, "--json").stdout)
    weekly = json.loads(run("calibrate", path, "--budget", "3.5/week", *day, "--json").stdout)
    assert monthly == weekly == found
    shown = run("calibrate", path, "--budget", "0.5/day", *day)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[-1] == f"threshold = {found['value']}"


def test_a_budget_alone_where_the_configuration_has_the_rest(tmp_path: Path) -> None:
    own = tmp_path / "config.toml"
    endpoint = '[cloud.big]\nbase_url = "https://example.com/v1"\nmodel = "m"\n'
    prices = "input_price = 2.5\noutput_price = 20.0\n"
    own.write_text(f"prompts_per_day = 1000\nanswer_tokens = 200\n{endpoint}{prices}")
    asked = ("calibrate", "--config", own, "--json", "--budget", "1.50/day")
    done = run(*asked)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert 1.4 < found["cost a day"] <= 1.5
    own.write_text(endpoint)
    refused = run(*asked)
    assert "output_price of a [cloud] model and prompts_per_day in the configuration" in " ".join(
        refused.output.replace("│", " ").split()
    )
    options = ("--input-price", 2.5, "--output-price", 20, "--prompts-per-day", 1000, "--answer-tokens", 200)
    assert json.loads(run(*asked, *options).stdout) == found


def test_a_threshold_is_written_into_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    done = run("calibrate", "--cloud-share", 0.2, "--config", path, "--write", "--json")
    assert done.exit_code != 0  # a file that is named must exist
    path.write_text("# mine\nescalate = 'never'\n\n[weights]\nprice = 2.0\n")
    done = run("calibrate", "--cloud-share", 0.2, "--config", path, "--write", "--json")
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)["value"]
    assert load_config(path).threshold == value
    assert path.read_text() == f"threshold = {value}\n# mine\nescalate = 'never'\n\n[weights]\nprice = 2.0\n"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("threshold = 0.7  # why\n", "threshold = 0.25  # why\n"),
        ("  threshold=0.7\r\nprivate = true\r\n", "  threshold=0.25\r\nprivate = true\r\n"),
        ("# threshold = 0.5   # a default\n", "threshold = 0.25   # a default\n"),
        ("# threshold = 0.5\nthreshold = 0.7\n", "# threshold = 0.5\nthreshold = 0.25\n"),
        ("[weights]\nprice = 1.0\n", "threshold = 0.25\n[weights]\nprice = 1.0\n"),
        ("", "threshold = 0.25\n"),
        ("\ufeffthreshold = 0.7\r\n", "\ufeffthreshold = 0.25\r\n"),
        ("\ufeffprivate = true\n", "\ufeffthreshold = 0.25\nprivate = true\n"),
    ],
)
def test_only_the_threshold_changes(tmp_path: Path, written: str, expected: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(written.encode())
    store_threshold(path, 0.25)
    assert path.read_bytes() == expected.encode()
    assert load_config(path).threshold == 0.25


def test_a_configuration_is_made_where_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    store_threshold(path, 0.25)
    assert load_config(path).threshold == 0.25
    assert path.read_text().replace("threshold = 0.25", "# threshold = 0.2", 1).split() == TEMPLATE.split()


@pytest.mark.parametrize(
    "written", ["threshold = ", "thresold = 0.5\n", 'refusal = """\nthreshold = 0.5\n"""\n', "\xff"]
)
def test_a_file_that_cannot_be_changed_safely_stays(tmp_path: Path, written: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(written.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config\.toml"):
        store_threshold(path, 0.25)
    assert path.read_bytes() == written.encode("latin-1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of --cloud-share and --budget"),
        (("--cloud-share", 0.1, "--budget", "1/day"), "one of --cloud-share and --budget"),
        (("--cloud-share", 1.5), "1.5"),
        (("--budget", "1/day"), "--output-price"),
        (("--budget", "1/year", "--output-price", 1, "--prompts-per-day", 5), "a day, a week or a month"),
        (("--cloud-share", 0.1, "empty.jsonl"), "no prompts"),
        (("--cloud-share", 0.1, "broken.jsonl"), "line 1"),
    ],
)
def test_what_cannot_be_calibrated_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").write_text("\n")
    Path("broken.jsonl").write_text("{\n")
    done = run("calibrate", *arguments)
    assert done.exit_code != 0
    assert message in done.output + str(done.exception)


# The gap recovered


def test_the_recovered_gap_of_known_orders() -> None:
    weak, strong = np.zeros(100), (np.arange(100) < 50).astype(float)
    best = summary(recovered(strong, weak, strong))
    assert best["APGR"] == pytest.approx(0.75, abs=0.01)
    assert (best["CPT50"], best["CPT80"]) == (0.25, 0.4)
    assert summary(recovered(-strong, weak, strong))["APGR"] == pytest.approx(0.25, abs=0.01)


def test_auc_counts_pairs() -> None:
    draw = np.random.default_rng(0)
    scores, yes = draw.integers(0, 5, 60).astype(float), draw.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[yes] for b in scores[~yes]]
    assert auc(scores, yes) == pytest.approx(np.mean(pairs))


def questions(count: int = 120) -> list[Answered]:
    """The strong model is better at most of the long ones of `long`, and at every third of `third`."""
    draw = random.Random(1)
    found = []
    for i in range(count):
        size = draw.randint(1, 60)
        text = "why " * size
        found.append(Answered(text, 0.5, 1.0 if size > 30 else draw.choice([0.5, 0.5, 0.0]), "long"))
        found.append(Answered(text, 0.0, float(i % 3 == 0), "third"))
    return found


def test_orders_are_compared() -> None:
    figures = Comparison(Router(), questions()).figures()
    long = figures["sets"]["long"]
    assert (long["rows"], long["weak"]) == (120, 0.5)
    assert long["random"] == pytest.approx({"APGR": 0.5, "CPT50": 0.5, "CPT80": 0.8})
    assert long["oracle"]["APGR"] >= long["length"]["APGR"] > 0.7
    assert long["length"]["AUC"] > 0.95
    assert 0 <= long["router"]["calibration error"] <= 1
    means = [figures["sets"][name]["router"]["APGR"] for name in ("long", "third")]
    assert figures["mean"]["router"]["APGR"] == pytest.approx(np.mean(means))


def test_curves_run_from_nothing_to_the_whole_gap() -> None:
    curves = Comparison(Router(), questions()).curves()
    for orders in curves.values():
        assert list(orders) == ["router", "length", "random", "oracle"]
        for curve in orders.values():
            assert (len(curve), curve[0], curve[-1]) == (101, 0, pytest.approx(1))
    assert all(a >= b - 1e-9 for a, b in zip(curves["long"]["oracle"], curves["long"]["router"], strict=True))


def test_without_a_gap_there_is_nothing_to_recover() -> None:
    with pytest.raises(EdgeMoEError, match="in worse the strong model is not better"):
        Comparison(Router(), [Answered("why", 1.0, 0.0, "worse")])


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    path = tmp_path / "answered.jsonl"
    rows = [{"text": q.text, "weak": q.weak, "strong": q.strong, "source": q.name} for q in questions()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_curves_are_drawn(answered: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "curves.html", tmp_path / "curves.png"
    done = run("eval", answered, "--plot", page, "--plot", picture)
    assert done.exit_code == 0, done.output
    assert "long: oracle" in done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    html = page.read_text()
    assert html.count("<polyline") == 8
    assert "http" not in html
    [points] = re.findall(r'points="([\d. ]+)"><title>random', html.split("<h2>third")[0])
    across, down = np.array(points.split(), float).reshape(-1, 2).T
    assert len(across) == 101
    assert np.abs(np.diff(np.diff(down))).max() < 0.3  # a straight line, but for the rounding of its points


def test_what_cannot_be_drawn_is_said_first(answered: Path, tmp_path: Path) -> None:
    assert "must end in .png or .html" in str(run("eval", answered, "--plot", tmp_path / "x.pdf").exception)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "why", "label": "law"}\n')
    assert 'no line has "weak" and "strong"' in run("eval", rows, "--plot", tmp_path / "x.html").output
    assert not (tmp_path / "x.html").exists()
    rows.write_text('{"text": "why", "weak": 1, "strong": 2}\n')
    assert "weak and strong must be numbers from 0 to 1" in str(run("eval", rows).exception)
