"""Who answers: every step of the policy, what it costs, why it says so, and the commands that show it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cloud_servers import Server, fine
from edgemoe import ConfigError, Router
from edgemoe.cli import cli
from edgemoe.cloud import Endpoint, Ledger
from edgemoe.config import Budget, CloudModel, Condition, Config, LocalModel, Rule, Weights
from edgemoe.routing.decider import Decider
from edgemoe.routing.messages import last_prompt, text_of
from edgemoe.routing.policy import Decision, Facts, decide, escalation, local_model
from routers import EASY_CODE, EASY_STORY, HARD, HARD_CODE, HARD_STORY, HARMFUL_PROMPT, write_router


def cloud(name: str = "big", **options: Any) -> CloudModel:
    endpoint = {k: options.pop(k) for k in list(options) if k.endswith("_price") or k == "key_variable"}
    return CloudModel(name, Endpoint(name, "https://api.example.com/v1", "m", **endpoint), **options)


def config(*models: LocalModel | CloudModel, **options: Any) -> Config:
    locals_ = {m.name: m for m in models if isinstance(m, LocalModel)} or {"small": LocalModel("small")}
    return Config(local=locals_, cloud={m.name: m for m in models if isinstance(m, CloudModel)}, **options)


def facts(strong: float | None = 0.9, domain: str | None = None, unsafe: float = 0.0, **options: Any) -> Facts:
    scores: dict[str, dict[str, float]] = {
        "domain": {"code": 1.0, "none": 0.0} if domain else {"code": 0.0, "none": 1.0},
        "unsafe": {"no": 1 - unsafe, "yes": unsafe},
    }
    if strong is not None:
        scores["strong"] = {"no": 1 - strong, "yes": strong}
    given = {"prompt_tokens": 100, "answer_tokens": 200} | options
    return Facts({"domain": domain, "unsafe": "no", "strong": "yes"}, scores, **given)


def taken(decision: Decision) -> tuple[str, str | None, str]:
    return decision.route, decision.target, decision.rule


PRIVATE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"private": True}, {}, "private"),
    ({}, {"local_only": True}, "local only"),
    ({}, {"confidential": True}, "private"),
    ({}, {"personal": ("email",)}, "personal data"),
]


@pytest.mark.parametrize(("settings", "known", "rule"), PRIVATE)
def test_privacy_comes_before_everything(settings: dict[str, Any], known: dict[str, Any], rule: str) -> None:
    to_cloud = Rule("all", {"domain": Condition(labels=("none",))}, "big")
    free = config(cloud(), rules=[to_cloud], threshold=0.0)
    assert taken(decide(free, facts())) == ("cloud", "big", "all")
    assert not decide(free, facts()).private
    for chosen in (config(cloud(), threshold=0.0, **settings), dataclasses.replace(free, **settings)):
        found = decide(chosen, facts(**known))
        assert (found.route, found.target, found.rule, found.private) == ("local", "small", rule, True)
        assert escalation(chosen, facts(**known)) is None
    assert decide(config(cloud(), **settings), facts(unsafe=0.9, **known)).route == "refuse"


def test_what_is_unsafe_is_refused_politely() -> None:
    chosen = config(cloud(), unsafe_threshold=0.6, refusal="No, thank you.", rules=[_rule("cloud", strong=Condition())])
    assert decide(chosen, facts(unsafe=0.6)).route == "cloud"
    found = decide(chosen, facts(unsafe=0.61))
    assert (taken(found), found.refusal, found.cost) == (("refuse", None, "unsafe"), "No, thank you.", 0.0)
    assert "61%" in found.reason
    never = dataclasses.replace(chosen, unsafe_threshold=1.0)
    assert decide(never, facts(unsafe=1.0)).route == "cloud"


def _rule(then: str, name: str = "mine", refusal: str | None = None, **when: Condition) -> Rule:
    return Rule(name, when, then, refusal)


CODE = Condition(labels=("code",))


def test_rules_come_in_order_and_before_the_threshold() -> None:
    rules = [
        _rule("refuse", "no code at night", "Sleep.", domain=CODE, strong=Condition(least=0.95)),
        _rule("coder", "code", domain=CODE),
        _rule("cloud", "all else", strong=Condition(most=0.2)),
        _rule("local", "never asked", another=Condition(labels=("x",))),
    ]
    chosen = config(LocalModel("small"), LocalModel("coder"), cloud(), rules=rules, threshold=0.5)
    assert taken(decide(chosen, facts(0.96, "code"))) == ("refuse", None, "no code at night")
    assert decide(chosen, facts(0.96, "code")).refusal == "Sleep."
    assert taken(decide(chosen, facts(0.9, "code"))) == ("local", "coder", "code")
    assert taken(decide(chosen, facts(0.1))) == ("cloud", "big", "all else")
    assert taken(decide(chosen, facts(0.3))) == ("local", "small", "threshold")


@pytest.mark.parametrize(
    ("known", "rule", "reason"),
    [
        ({"unavailable": {"big": "it has no key"}}, "unavailable", "it has no key"),
        ({"budget_left": 0.0}, "budget", "the budget of 1.5/day is spent"),
        ({"budget_left": 0.00029}, "budget", "spent"),
        ({"personal": ("card",)}, "personal data", "a card number"),
    ],
)
def test_a_cloud_that_cannot_be_asked_means_local(known: dict[str, Any], rule: str, reason: str) -> None:
    priced = cloud(input_price=1.0, output_price=1.0)
    by_threshold = config(priced, budget=Budget(1.5))
    by_rule = dataclasses.replace(by_threshold, rules=[_rule("big", strong=Condition())])
    for chosen in (by_threshold, by_rule):
        found = decide(chosen, facts(**known))
        assert taken(found) == ("local", "small", rule)
        assert reason in found.reason
        assert found.cost == 0
        assert decide(chosen, facts(budget_left=0.0003)).route == "cloud"


def test_what_costs_nothing_is_asked_when_the_budget_is_spent() -> None:
    dear = cloud("dear", input_price=1.0, output_price=1.0, ability=1.0)
    both = config(dear, cloud("free"), budget=Budget(1.5))
    assert decide(both, facts(budget_left=0.0)).target == "free"


def test_without_an_endpoint_or_a_head_it_is_local() -> None:
    assert taken(decide(config(), facts())) == ("local", "small", "no endpoint")
    assert taken(decide(config(cloud()), facts(None))) == ("local", "small", "default")
    assert taken(decide(config(cloud()), Facts())) == ("local", "small", "default")


def test_the_threshold_divides() -> None:
    chosen = config(cloud(input_price=2.0, output_price=10.0), threshold=0.7)
    assert taken(decide(chosen, facts(0.69))) == ("local", "small", "threshold")
    found = decide(chosen, facts(0.7))
    assert taken(found) == ("cloud", "big", "threshold")
    assert found.cost == pytest.approx((100 * 2 + 200 * 10) / 1e6)
    assert decide(chosen, dataclasses.replace(facts(0.1), strong=0.8)).route == "cloud"
    assert decide(dataclasses.replace(chosen, threshold=0.0), facts(0.0)).route == "cloud"


def test_a_domain_picks_its_expert_and_an_able_one_needs_the_cloud_less() -> None:
    experts = config(LocalModel("small"), LocalModel("coder", domains=("code",), ability=0.8), cloud(), threshold=0.5)
    assert taken(decide(experts, facts(0.3, "code"))) == ("local", "coder", "domain")
    assert taken(decide(experts, facts(0.3))) == ("local", "small", "threshold")
    assert taken(decide(experts, facts(0.9, "code"))) == ("local", "coder", "domain")
    assert taken(decide(experts, facts(0.9))) == ("cloud", "big", "threshold")
    assert local_model(experts, facts(domain="code")).name == "coder"
    clouds = config(cloud(), cloud("legal", domains=("law",)), cloud("codes", domains=("code",), ability=0.1))
    assert decide(clouds, facts(domain="code")).target == "codes"
    assert decide(clouds, facts()).target == "big"


def test_weights_choose_among_several() -> None:
    good = cloud("good", ability=1.0, output_price=50.0, latency=5.0)
    cheap = cloud("cheap", ability=0.6, output_price=1.0, latency=1.0)
    own = cloud("own", ability=0.4, latency=3.0, trust=1.0)
    for weights, best in (
        (Weights(1, 0, 0, 0), "good"),
        (Weights(0, 1, 0, 0), "own"),
        (Weights(0, 0, 1, 0), "cheap"),
        (Weights(0, 0, 0, 1), "own"),
        (Weights(1, 0.5, 0, 0), "cheap"),
    ):
        found = decide(config(good, cheap, own, weights=weights), facts(0.9))
        assert (found.target, max(found.values, key=lambda name: found.values[name])) == (best, best)
    assert decide(config(good, cheap, weights=Weights(1, 0.1, 0, 0)), facts(0.9)).target == "good"
    assert decide(config(good, cheap, weights=Weights(1, 0.1, 0, 0), threshold=0), facts(0.0)).target == "cheap"


def test_a_budget_leaves_what_it_can_still_pay() -> None:
    dear, cheap = cloud("dear", output_price=100.0, ability=1.0), cloud("cheap", output_price=1.0)
    chosen = config(dear, cheap, budget=Budget(1), weights=Weights(1, 0, 0, 0))
    assert decide(chosen, facts(budget_left=1.0)).target == "dear"
    assert decide(chosen, facts(budget_left=0.01)).target == "cheap"
    assert decide(chosen, facts(budget_left=0.0001)).route == "local"
    short = dataclasses.replace(dear, sampling={"max_tokens": 10})
    assert decide(config(short, budget=Budget(1)), facts(budget_left=0.01)).cost == pytest.approx(0.001)


def test_only_probabilities_escalate() -> None:
    chosen = config(LocalModel("small"), LocalModel("coder", domains=("code",)), cloud())
    assert decide(chosen, facts(0.1)).escalates
    assert decide(chosen, facts(0.1, "code")).escalates
    assert not decide(chosen, facts(0.1, personal=("email",))).escalates
    assert not decide(chosen, facts(0.9)).escalates
    for then in ("local", "coder"):
        ruled = dataclasses.replace(chosen, rules=[_rule(then, strong=Condition())])
        assert not decide(ruled, facts(0.1)).escalates


def test_escalation_goes_where_the_cloud_can_be_asked() -> None:
    found = escalation(config(cloud(output_price=10.0)), facts(0.1))
    assert found is not None
    assert (found.target, found.cost) == ("big", pytest.approx(0.002))
    assert escalation(config(cloud()), facts(unavailable={"big": "no key"})) is None
    assert escalation(config(), facts()) is None


# With a router, keys and a ledger


def settings(router_file: Path, tmp_path: Path, *models: LocalModel | CloudModel, **options: Any) -> Config:
    return config(*models, router=router_file, state=tmp_path / "state", **options)


def test_the_router_decides_for_real_prompts(router_file: Path, tmp_path: Path) -> None:
    coder = LocalModel("coder", domains=("code",))
    decider = Decider(settings(router_file, tmp_path, LocalModel("small"), coder, cloud()))
    assert taken(decider.decide(EASY_STORY)) == ("local", "small", "threshold")
    assert taken(decider.decide(EASY_CODE)) == ("local", "coder", "domain")
    assert taken(decider.decide(HARD_STORY)) == ("cloud", "big", "threshold")
    assert taken(decider.decide(HARMFUL_PROMPT)) == ("refuse", None, "unsafe")
    assert taken(decider.decide(HARD_STORY, local_only=True)) == ("local", "small", "local only")
    for prompt in ("", "\x00\xff", "😀" * 1000, "a" * 10**6):
        assert decider.decide(prompt).route in ("local", "cloud", "refuse")


def test_personal_data_anywhere_in_the_conversation_counts(router_file: Path, tmp_path: Path) -> None:
    decider = Decider(settings(router_file, tmp_path, cloud()))
    earlier: list[dict[str, Any]] = [{"role": "user", "content": "my card is 4111 1111 1111 1111"}]
    asked = {"role": "user", "content": HARD_STORY}
    assert decider.decide([asked]).route == "cloud"
    for private in (
        {"role": "user", "content": "my card is 4111 1111 1111 1111"},
        {"role": "assistant", "content": "You are jane@example.com."},
        {"role": "system", "content": "The user's phone is +49 171 2345678."},
        {"role": "user", "content": [{"type": "text", "text": "DE89 3704 0044 0532 0130 00"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": '{"to": "a@example.com"}'}}]},
    ):
        assert taken(decider.decide([private, asked])) == ("local", "small", "personal data")
    allowed = Decider(settings(router_file, tmp_path, cloud(), personal_data=("email",)))
    assert allowed.decide([*earlier, asked]).route == "cloud"
    assert last_prompt([*earlier, asked, {"role": "assistant", "content": "x"}]) == HARD_STORY
    assert text_of({"role": "user", "content": [{"type": "image_url"}, "two"]}) == "\ntwo"
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/?user=jane@example.com"}}
    result = {"type": "tool_result", "content": [{"type": "text", "text": "card 4111 1111 1111 1111"}]}
    for part in (picture, result):
        message = {"role": "user", "content": [{"type": "text", "text": HARD_STORY}, part]}
        assert taken(decider.decide([message])) == ("local", "small", "personal data")
    picture["image_url"] = {"url": "data:image/png;base64,4111111111111111"}  # nothing in a picture is looked at
    assert (
        decider.decide([{"role": "user", "content": [{"type": "text", "text": HARD_STORY}, picture]}]).route == "cloud"
    )


def test_a_router_decides_by_the_configuration_of_this_call(
    router_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text(
        'private = true\n[cloud.big]\nbase_url = "https://example.com/v1"\nmodel = "m"\n'
    )
    monkeypatch.setenv("EDGEMOE_CONFIG", str(tmp_path / "own.toml"))
    router, given = Router(router_file), settings(router_file, tmp_path, cloud())
    for _ in range(2):
        assert router.decide(HARD_STORY).rule == "private"
        assert router.decide(HARD_STORY, given).route == "cloud"
        for threshold in np.linspace(0, 1, 20):
            assert router.decide(HARD_STORY, dataclasses.replace(given, threshold=threshold)).private is False
    assert len(router._deciders) < 20


def test_keys_and_money_are_looked_at(router_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    keyed = Decider(settings(router_file, tmp_path, cloud(key_variable="NOT_SET")))
    found = keyed.decide(HARD_STORY)
    assert taken(found) == ("local", "small", "unavailable")
    assert "NOT_SET" in found.reason
    monkeypatch.setenv("NOT_SET", "secret-value")
    assert keyed.decide(HARD_STORY).route == "cloud"
    assert "secret-value" not in repr(keyed.explain(HARD_STORY))
    paid = Decider(settings(router_file, tmp_path, cloud(output_price=10.0), budget=Budget(0.5)))
    assert paid.decide(HARD_STORY).route == "cloud"
    Ledger(paid.config.ledger).add("big", 0.4999)
    assert taken(paid.decide(HARD_STORY)) == ("local", "small", "budget")
    assert paid.decide(HARD_STORY, max_tokens=5).route == "cloud"


def test_heads_of_ones_own(router_file: Path, tmp_path: Path) -> None:
    own = write_router(tmp_path / "own.onnx", "tool")
    rules = [_rule("cloud", tool=Condition(labels=("maths",)))]
    decider = Decider(settings(router_file, tmp_path, cloud(), heads=(own,), rules=rules))
    found = decider.decide("a short sum of an equation and an integral")
    assert taken(found) == ("cloud", "big", "mine")
    assert set(found.scores) == {"domain", "strong", "unsafe", "tool"}
    with pytest.raises(ConfigError, match="another router"):
        Decider(settings(router_file, tmp_path, heads=(own, own)))
    for rule, message in (
        (_rule("local", tol=CODE), "mine asks for the head 'tol': did you mean tool"),
        (_rule("local", zzz=CODE), "there are domain, strong, unsafe, tool"),
        (_rule("local", tool=Condition(labels=("math",))), "did you mean maths"),
        (_rule("local", tool=Condition(least=0.5)), "its labels are"),
    ):
        with pytest.raises(ConfigError, match=message):
            Decider(settings(router_file, tmp_path, heads=(own,), rules=[rule]))


def test_explaining_names_the_words_that_moved_the_score(router_file: Path, tmp_path: Path) -> None:
    decider = Decider(settings(router_file, tmp_path, cloud()))
    found = decider.explain("tell me of the python theorem, then of something")
    best = {head: next(f for f in found.features if f.head == head) for head in ("domain", "strong")}
    assert (best["strong"].word, best["strong"].label) == ("theorem", "yes")
    assert best["strong"].weight > 0
    assert best["domain"].word == "python"
    without = decider.classify("tell me of the python , then of something").strong_probability
    whole = found.strong
    assert without is not None
    assert whole is not None
    assert whole > without
    assert len(decider.explain("theorem " * 3000).features) <= 5 * 3
    assert decider.explain("").features == ()


def test_the_router_alone_decides(router_file: Path, tmp_path: Path) -> None:
    router = Router(router_file)
    chosen = settings(router_file, tmp_path, cloud())
    assert router.decide(HARD_STORY, chosen).route == "cloud"
    assert router.decide(HARD_STORY, chosen, local_only=True).route == "local"
    assert router.decide(HARD_STORY, config(state=tmp_path)).rule == "no endpoint"


def test_deciding_asks_nobody(router_file: Path, tmp_path: Path) -> None:
    with Server(fine) as server:
        endpoint = Endpoint("big", f"http://127.0.0.1:{server.port}/v1", "m")
        decider = Decider(settings(router_file, tmp_path, CloudModel("big", endpoint)))
        assert decider.explain(HARD_STORY).route == "cloud"
        assert not server.visits


# Commands


@pytest.fixture
def file(router_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith("EDGEMOE_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "config.toml"
    path.write_text(
        f'router = "{router_file}"\nstate = "state"\n[cloud.big]\nbase_url = "https://api.example.com/v1"\n'
        'model = "m"\noutput_price = 10.0\n'
    )
    return path


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, ["route", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_decide_prints_a_line_for_each(file: Path) -> None:
    shown = run("decide", EASY_STORY, HARD_CODE, HARMFUL_PROMPT, "--config", file).splitlines()
    assert [line.split()[-4:] for line in shown[1:]] == [
        ["local", "default", "threshold", "0.0000"],
        ["cloud", "big", "threshold", "0.0030"],
        ["refuse", "-", "unsafe", "0.0000"],
    ]
    [found] = json.loads(run("decide", HARD_CODE, "--config", file, "--local-only", "--json"))
    assert (found["route"], found["rule"], found["private"]) == ("local", "local only", True)


def test_explain_prints_scores_words_rule_and_cost(file: Path) -> None:
    shown = run("explain", f"{HARD_CODE} for jane@example.com", "--config", file)
    for part in ("local, default", "personal data", "an e-mail address", "words for strong yes", "0.0000"):
        assert part in shown
    [strong] = [line for line in shown.splitlines() if line.startswith("words for strong yes")]
    assert any(f"{word} +" in strong for word in HARD), strong
    assert "jane@example.com" not in shown.replace("jane@example.com +", "").split("words for")[0]
    found = json.loads(run("explain", HARD_CODE, "--config", file, "--json"))
    assert found["cost"] == pytest.approx(0.003, abs=1e-4)
    assert {f["head"] for f in found["features"]} >= {"domain", "strong"}


def test_init_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert str(tmp_path / "edgemoe/config.toml") in run("init")
    (tmp_path / "edgemoe/config.toml").write_text("private = true")
    with pytest.raises(ConfigError, match="--force"):
        run("init")
    assert (tmp_path / "edgemoe/config.toml").read_text() == "private = true"
    run("init", "--force")
    assert "[local.small]" in (tmp_path / "edgemoe/config.toml").read_text()
    run("init", tmp_path / "other.toml")
