"""The configuration: what it may say, every way to say it wrongly, and the environment's variables."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from edgemoe import ConfigError
from edgemoe.assistant.confidence import USUAL
from edgemoe.cloud import Endpoint
from edgemoe.config import (
    PERSONAL_DATA,
    Budget,
    CloudModel,
    Config,
    LocalModel,
    Rule,
    Weights,
    config_path,
    load_config,
    state_folder,
    write_template,
)
from edgemoe.config.template import TEMPLATE
from edgemoe.routing.privacy import KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FULL = """\
private = false
threshold = 0.7
budget = "1.50/day"
escalate = "auto"
heads = "tool.onnx"

[weights]
price = 2

[local.small]
path = "small.gguf"
memory = "600MiB"
domains = "code"
sampling = { temperature = 0, stop = ["\\n"] }

[local."big one"]
"""
CLOUD = """\
[cloud.vendor]
base_url = "https://api.example.com/v1"
model = "m"
key_variable = "VENDOR_KEY"
input_price = 0.5
output_price = 1.5
"""
RULE = """\
[[rule]]
when = { domain = ["code", "none"] }
then = "vendor"

[[rule]]
name = "second"
then = "refuse"
refusal = "Not here."
[rule.when]
unsafe = ">= 0.25"
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("EDGEMOE_")]:
        monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    for name in ("small.gguf", "tool.onnx"):
        (folder / name).touch()
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_everything_has_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_path() == tmp_path / "edgemoe/config.toml"
    found = load_config()
    assert found == Config()
    assert (found.private, found.escalate, found.budget, list(found.local), found.cloud) == (
        False,
        "ask",
        None,
        ["default"],
        {},
    )
    assert load_config(written(tmp_path, "")) == Config(path=tmp_path / "config.toml")
    assert PERSONAL_DATA == KINDS


@pytest.mark.parametrize(
    ("budget", "meant"),
    [("0.25/day", Budget(0.25)), (" 5 / Week ", Budget(5, "week")), ("10.5/month", Budget(10.5, "month"))],
)
def test_budgets_of_days_weeks_and_months(tmp_path: Path, budget: str, meant: Budget) -> None:
    found = load_config(written(tmp_path, f'budget = "{budget}"'))
    assert found.budget == meant
    assert load_config(written(tmp_path, f'budget = "{meant}"')).budget == meant


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = load_config(written(tmp_path, FULL.replace('"big one"', "big") + CLOUD + RULE))
    assert (found.threshold, found.budget, found.escalate, found.weights) == (
        0.7,
        Budget(1.5),
        "auto",
        Weights(price=2),
    )
    assert found.heads == (tmp_path / "tool.onnx",)
    assert found.local["small"].path == tmp_path / "small.gguf"
    assert found.local["small"].domains == ("code",)
    assert found.local["small"].sampling == {"temperature": 0, "stop": ["\n"]}
    assert found.local["big"].path is None
    assert found.cloud["vendor"].endpoint.input_price == 0.5
    assert found.cloud["vendor"].cost(1_000_000, 2_000_000) == 3.5
    assert [(rule.name, rule.then, rule.refusal) for rule in found.rules] == [
        ("rule 1", "vendor", None),
        ("second", "refuse", "Not here."),
    ]
    first, second = (rule.when for rule in found.rules)
    assert first["domain"].holds("code", {})
    assert first["domain"].holds(None, {})
    assert not first["domain"].holds("law", {})
    assert second["unsafe"].holds("no", {"yes": 0.25})
    assert not second["unsafe"].holds("yes", {"yes": 0.24})


def test_the_template_is_commented_and_right(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    write_template(path)
    assert load_config(path) == load_config(written(tmp_path, "[local.small]")).__class__(
        path=path, local=load_config(written(tmp_path, "[local.small]")).local
    )
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="--force"):
        write_template(path)
    for name in ("model.gguf", "router.onnx", "tool.onnx"):
        (tmp_path / name).touch()
    every = re.sub(r"^# (?=[a-z_]+ = |\[)", "", TEMPLATE, flags=re.MULTILINE)
    found = load_config(written(tmp_path, every))
    assert found.private
    assert found.cloud["big"].endpoint.keyring == "example"
    assert found.rules[0].when["strong"].least == 0.3
    defaults = Config()
    for name in ("threshold", "unsafe_threshold", "refusal", "escalate", "confidence", "verify", "answer_tokens"):
        assert getattr(found, name) == getattr(defaults, name), name
    assert (found.weights, found.personal_data, found.memory) == (defaults.weights, KINDS, "auto")


def test_the_template_has_every_setting(tmp_path: Path) -> None:
    """With its default, unless it is none or an example is worth more."""
    for name in ("model.gguf", "router.onnx", "tool.onnx"):
        (tmp_path / name).touch()
    found = tomllib.loads(re.sub(r"^# (?=[a-z_]+ = |\[)", "", TEMPLATE, flags=re.MULTILINE))
    tables = {
        Config: {key for key in found if key != "rule"} | {"rules"},
        Weights: set(found["weights"]),
        LocalModel: set(found["local"]["small"]),
        CloudModel: set(found["cloud"]["big"]) - {f.name for f in fields(Endpoint)},
        Endpoint: set(found["cloud"]["big"]) - ({f.name for f in fields(CloudModel)}),
        Rule: set(found["rule"][0]),
    }
    chosen = {Config: {"path"}, LocalModel: {"name"}, CloudModel: {"name", "endpoint"}, Endpoint: {"name"}}
    for record, shown in tables.items():
        assert shown == {f.name for f in fields(record)} - chosen.get(record, set()), record.__name__
    endpoint = Endpoint("big", "https://example.com/v1", "m")
    timeouts = ("connect_timeout", "first_token_timeout", "stall_timeout", "total_timeout")
    for name in (*timeouts, "slowest", "retries", "plain_http"):
        assert found["cloud"]["big"][name] == getattr(endpoint, name), name
    for name in ("ability", "latency", "trust"):
        assert found["cloud"]["big"][name] == getattr(CloudModel("big", endpoint), name), name
    assert found["local"]["small"]["latency"] == LocalModel("small").latency
    assert tuple(found["local"]["small"]["confidence"]) == USUAL


@pytest.mark.parametrize(
    ("condition", "holds", "not_held"),
    [
        ("> 0.5", (0.5000001, 1.0), (0.5, 0.0)),
        (">= 0.5", (0.5, 1.0), (0.4999999, 0.0)),
        ("< 0.5", (0.4999999, 0.0), (0.5, 1.0)),
        ("<= 0.5", (0.5, 0.0), (0.5000001, 1.0)),
        ("> 0", (1e-300, 1.0), (0.0,)),
        ("< 1", (0.9999999, 0.0), (1.0,)),
        ("< 0", (), (0.0, 1.0)),
        ("> 1", (), (0.0, 1.0)),
    ],
)
def test_a_limit_belongs_to_a_condition_where_it_says_so(
    tmp_path: Path, condition: str, holds: tuple[float, ...], not_held: tuple[float, ...]
) -> None:
    rule = f'[[rule]]\nwhen = {{ strong = "{condition}" }}\nthen = "local"\n'
    found = load_config(written(tmp_path, rule)).rules[0].when["strong"]
    assert [found.holds(None, {"yes": score}) for score in holds + not_held] == [True] * len(holds) + [False] * len(
        not_held
    )


def test_an_empty_variable_names_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("EDGEMOE_CONFIG", "")
    assert load_config() == Config()


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbfprivate = true\r\n")
    assert load_config(path).private
    path.write_bytes(b"\xef\xbb\xbfprivat = true\r\n")
    with pytest.raises(ConfigError, match="line 1: the configuration has no key 'privat'"):
        load_config(path)


WRONG = {
    "threshhold = 0.5": r"config.toml, line 1: the configuration has no key 'threshhold': did you mean threshold\?",
    "zzz = 1": "has no key 'zzz': it has .*budget",
    "\nthreshold = 1.5": r"line 2: threshold must be a number from 0 to 1, not 1.5",
    "threshold = nan": "threshold must be a number from 0 to 1, not nan",
    "threshold = true": "must be a number.*not true",
    'private = "yes"': "private must be true or false, not 'yes'",
    "private = 1": "private must be true or false, not 1",
    'escalate = "maybe"': "escalate must be one of ask, auto, never, not 'maybe'",
    'escalate = "nver"': r"did you mean never\?",
    'budget = "1.50"': 'must be money for a day, a week or a month, such as "1.50/day", "10/week" or "30/month"',
    'budget = "-1/day"': "budget must be money for a day",
    'budget = "9/year"': "budget must be money for a day, a week or a month.*not '9/year'",
    'budget = "2000000000/day"': "budget must be money from 0 to 1e",
    "budget = 1.5": "budget must be money for a day",
    'memory = "4 apples"': "memory must be .*not a size",
    "memory = 0": "memory must be .*more than zero",
    'router = "missing.onnx"': "router must be a file that exists, not 'missing.onnx'",
    'heads = ["tool.onnx", "tool.onnx"]': "a list of different texts",
    'heads = ["tool.onnx", "x.onnx"]': "a file that exists",
    'personal_data = ["emial"]': r"personal_data must be one of .*did you mean email\?",
    "answer_tokens = 0": "a whole number from 1",
    "answer_tokens = 2.5": "a whole number from 1",
    'refusal = ""': "a text in quotes",
    "[weights]\nprise = 1": r"line 2: \[weights\] has no key 'prise': did you mean price\?",
    "[weights]\nprice = -1": r"line 2: weights.price must be",
    "weights = 3": "weights must be a table",
    "[wieghts]": "did you mean weights",
    "local = 3": "local must be a table",
    '[local]\npath = "small.gguf"': r"\[local\] holds tables such as \[local.path\]",
    '[local.a]\npath = "x.gguf"': r"line 2: local.a.path must be a file .* name of a model \(.*x.gguf\), not 'x",
    '[local.a]\n\nMemory = "1GiB"': r"line 3: \[local.a\] has no key 'Memory': did you mean memory\?",
    '[local.a]\nmemory = "1 GiBi"': "line 2: local.a.memory must be",
    '[local.a]\nquality = "best"': r"line 2: local.a.quality must be 'exact', 'high', .*fixed:LEVEL.*, not 'best'",
    "[local.a]\nquality = 1.5": "line 2: local.a.quality must be .*, not 1.5",
    "[local.a]\nsampling = { temprature = 1 }": r"line 2: \[local.a.sampling\] has no key 'temprature': .*temperature",
    "[local.a]\nsampling = { top_p = 2 }": r"local.a.sampling.top_p must be a number from 0 to 1, not 2",
    "[local.a.sampling]\nseed = -1": "line 2: local.a.sampling.seed must be a whole number",
    "[local.cloud]": "a model cannot be called 'cloud'",
    '[local."x y"]': "a model cannot be called 'x y'",
    "[local.a]\nconfidence = [1, 2]": "the three numbers",
    "[cloud.v]": r"line 1: \[cloud.v\] needs base_url",
    '[cloud.v]\nbase_url = "https://x.org/v1"': r"\[cloud.v\] needs model",
    CLOUD.replace("vendor", "small") + "[local.small]": "line 1: 'small' is also the name of a local model",
    CLOUD.replace("base_url", "base-url"): r"line 2: \[cloud.vendor\] has no key 'base-url': did you mean base_url\?",
    CLOUD + "in_price = 1": r"line 7: \[cloud.vendor\] has no key 'in_price': did you mean input_price\?",
    CLOUD.replace("= 0.5", "= -0.5"): "line 5: cloud.vendor.input_price must be a number from 0 to 1e.09, not -0.5",
    CLOUD.replace("= 0.5", '= "0.5"'): "line 5: cloud.vendor.input_price must be a number",
    CLOUD.replace("https://api.example.com/v1", "ftp://x"): "line 2: .*needs a base_url like",
    CLOUD.replace("https://", "http://"): "line 2|without TLS",
    CLOUD + "retries = 99": "line 7: cloud.vendor.retries must be a whole number from 0 to 10",
    CLOUD + 'key = "sk-123"': r"\[cloud.vendor\] has no key 'key': did you mean key_variable|keyring\?",
    CLOUD + CLOUD: "is no TOML: .*line 7",
    "[[rule]]\nthen = 'local'": r"line 1: \[rule.1\] needs when",
    "[[rule]]\nwhen = {}\nthen = 'local'": "line 2: a rule needs a condition",
    "[[rule]]\nwhen = { domain = 'code' }": r"\[rule.1\] needs then",
    RULE: "rule.1.then must be one of local, cloud, refuse, default, not 'vendor'",
    CLOUD + RULE.replace('"refuse"', '"vendro"'): r"line 13: rule.2.then must be .*did you mean vendor\?",
    CLOUD + RULE.replace(">= 0.25", ">= 7"): "line 16: rule.2.when.unsafe must be a label",
    CLOUD + RULE.replace('">= 0.25"', "0.25"): "rule.2.when.unsafe must be a label",
    "rule = 3": "rule must be tables",
    "a = [": "is no TOML",
    "state = 3": "state must be a text",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text.replace("\n", "|")[:60])
def test_what_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[text]) as caught:
        load_config(written(tmp_path, text))
    assert "config.toml" in str(caught.value)
    assert "sk-123" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="route init"):
        load_config(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "binary.toml")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5000)
    with pytest.raises(ConfigError, match="no TOML"):
        load_config(tmp_path / "deep.toml")


def test_variables_override_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, FULL.replace('"big one"', "big-1") + CLOUD)
    for name, value in {
        "CONFIG": str(path),
        "PRIVATE": "true",
        "BUDGET": "0.25/day",
        "PERSONAL_DATA": '["email"]',
        "WEIGHTS_PRICE": "7",
        "LOCAL_SMALL_MEMORY": "1GiB",
        "LOCAL_BIG_1_CTX": "512",
        "CLOUD_VENDOR_BASE_URL": "https://other.example/v1",
        "VENV": "an installer's",
        "FUZZ_FILES": "3",
        "GGML_SOURCE": "there",
    }.items():
        monkeypatch.setenv(f"EDGEMOE_{name}", value)
    found = load_config()
    assert (found.private, found.budget, found.personal_data, found.weights.price) == (
        True,
        Budget(0.25),
        ("email",),
        7,
    )
    assert (found.local["small"].memory, found.local["big-1"].ctx) == ("1GiB", 512)
    assert found.cloud["vendor"].endpoint.base_url == "https://other.example/v1"
    assert found.threshold == 0.7


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PRIVATE", "perhaps", "the variable EDGEMOE_PRIVATE: private must be true or false, not 'perhaps'"),
        ("THRESHOLD", "2", "the variable EDGEMOE_THRESHOLD: threshold must be"),
        ("TRESHOLD", "0.5", "did you mean EDGEMOE_THRESHOLD"),
        ("PRIVAT", "true", "did you mean EDGEMOE_PRIVATE"),
        ("LOCAL_SMALL_MEMROY", "1GiB", r"the variable EDGEMOE_LOCAL_SMALL_MEMROY: \[local.small\] has no key 'memroy'"),
        ("LOCAL_SMAL_MEMORY", "1GiB", r"EDGEMOE_LOCAL_SMAL_MEMORY names no \[local\] model .*: it has .*SMALL"),
        ("CLOUD_OTHER_MODEL", "x", r"EDGEMOE_CLOUD_OTHER_MODEL names no \[cloud\] model of the configuration"),
        ("WEIGHTS_COST", "1", r"the variable EDGEMOE_WEIGHTS_COST: \[weights\] has no key 'cost'"),
    ],
)
def test_wrong_variables_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"EDGEMOE_{name}", value)
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, FULL.replace('"big one"', "big")))


def test_a_home_that_nobody_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEMOE_CONFIG", "~nobody-of-this-name/config.toml")
    with pytest.raises(ConfigError, match="EDGEMOE_CONFIG: '~nobody-of-this-name/config.toml' is no file's name"):
        load_config()


@pytest.mark.parametrize("line", ['state = "~nobody-of-this-name"', 'router = "~nobody-of-this-name/r.onnx"'])
def test_a_home_in_the_file_that_nobody_has_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="must be a path: nobody has this home, not '~nobody-of-this-name"):
        load_config(written(tmp_path, line))


def test_state_lies_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert state_folder() == tmp_path / "state/edgemoe"
    assert load_config(written(tmp_path, "")).ledger == tmp_path / "state/edgemoe/ledger.json"
    assert load_config(written(tmp_path, 'state = "here"')).learned == tmp_path / "here/feedback.msgpack"
