"""Training the prompt router: rows, calibration, what heads learn, and reproducible files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgemoe import EdgeMoEError
from edgemoe.cli import cli
from edgemoe.config import Config, LocalModel
from edgemoe.errors import ConfigError
from edgemoe.routing import calibration
from edgemoe.routing.decider import Decider
from edgemoe.routing.evaluation import evaluate_rows
from edgemoe.routing.export import to_onnx
from edgemoe.routing.features import Hashing, corpus_of, normalise
from edgemoe.routing.heads import choose, softmax
from edgemoe.routing.router import Router
from edgemoe.routing.rows import Row, read_rows
from edgemoe.routing.sampling import frequencies, held_out, pieces
from edgemoe.routing.training import Options, train_router

FOOD, CARS, OTHER = (
    words.split()
    for words in (
        "soup bread oven recipe flour butter dinner taste cook sauce pepper onion",
        "engine wheel brake clutch diesel garage tyre gear motor road fuel exhaust",
        "moon river cloud stone window paper green seven quiet north letter music",
    )
)
TOPICS = {"food": FOOD, "cars": CARS, "none": OTHER}
HASHING = Hashing(1 << 13)


def prompts(seed: int, count: int = 240) -> list[Row]:
    """Prompts of three topics from four sources; longer ones are answered worse by the small model."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        topic = draw.choice(list(TOPICS))
        size = draw.randint(4, 45)
        text = " ".join(draw.choice([*TOPICS[topic], "the", "and", "is", "my"]) for _ in range(size))
        labels = {"domain": topic, "strong": float(size > 25), "unsafe": float(topic == "cars")}
        rows.append(Row(text, labels, f"source {i % 4}", ("train", "train", "train", "dev", "test")[i % 5]))
    return rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("router") / "router.onnx"
    path.write_bytes(to_onnx(train_router(prompts(0), HASHING, Options()), {"note": "a test"}))
    return path


def test_heads_learn_what_rows_say(trained: Path) -> None:
    found = evaluate_rows(Router(trained), prompts(1, 400))
    assert found["domain"]["macro recall"] > 0.9
    assert found["unsafe"]["AUC"] > 0.95
    assert found["strong"]["AUC"] > 0.9  # of length alone, which the n-grams do not know
    assert found["domain"]["calibration error"] < 0.15


def test_the_file_says_what_the_floats_say(trained: Path) -> None:
    model = train_router(prompts(0), HASHING, Options())
    texts = [row.text for row in prompts(2, 60)]
    corpus = corpus_of(texts, HASHING)
    floats = np.concatenate([head.logits(corpus) for head in model.heads], axis=1)
    router = Router(trained)
    file = np.array([router.logits(text) for text in texts])
    assert np.abs(floats - file).max() < 0.1 * floats.std()
    width = len(model.heads[0].labels)
    assert (floats[:, :width].argmax(1) == file[:, :width].argmax(1)).mean() > 0.95


def test_logits_are_those_of_exact_integers(trained: Path) -> None:
    """The graph again in Python's integers and IEEE doubles, in another order: the same bits."""
    arrays = stored_arrays(trained)
    router = Router(trained)
    for text in [row.text for row in prompts(3, 40)] + ["", "ß" * 3000]:
        words, grams, dense = router._extractor.extract(normalise(text))
        means = []
        for ids in (words, grams):
            sums = arrays["table"][ids[::-1]].astype(object).sum(axis=0)
            for column, owner, floor in zip(
                arrays["value_columns"], arrays["gate_columns"], arrays["floor"], strict=True
            ):
                means.append(max(float(sums[column]) / float(sums[owner]), floor))
        integers = [round(mean * 65536) for mean in means] + dense.tolist()
        expected = []
        for k, (scale, bias) in enumerate(zip(arrays["scales"], arrays["biases"], strict=True)):
            total = sum(int(w) * u for w, u in zip(arrays["weights"][::-1, k], integers[::-1], strict=True))
            assert abs(total) < 1 << 53
            expected.append(np.float32(float(total) * scale + bias).item())
        assert router.logits(text) == expected


def stored_arrays(path: Path) -> dict[str, np.ndarray]:
    """The constants of the ONNX file, by a reader of protobuf's wire format."""
    types = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 11: "<f8"}
    graph = next(value for tag, value in fields(path.read_bytes()) if tag == 7)
    found = {}
    for tag, value in fields(graph):
        if tag == 5:
            tensor = list(fields(value))
            shape = [v for t, v in tensor if t == 1]
            dtype = types[next(v for t, v in tensor if t == 2)]
            name = next(v for t, v in tensor if t == 8).decode()
            found[name] = np.frombuffer(next(v for t, v in tensor if t == 9), dtype).reshape(shape)
    return found


def fields(data: bytes):
    def varint(i: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (data[i] & 0x7F) << shift
            shift += 7
            i += 1
            if data[i - 1] < 0x80:
                return value, i

    i = 0
    while i < len(data):
        key, i = varint(i)
        if key & 7 == 0:
            value, i = varint(i)
            yield key >> 3, value
        else:
            assert key & 7 == 2
            size, i = varint(i)
            yield key >> 3, data[i : i + size]
            i += size


def exams(seed: int, count: int = 400) -> list[Row]:
    """Questions of two exams: the small model fails at cars, and of the rest at long ones."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        topic = draw.choice(["food", "cars", "none"])
        size = draw.randint(8, 30)
        text = " ".join(draw.choice([*TOPICS[topic], "the", "and", "is", "my"]) for _ in range(size))
        fails = {"food": 0.1, "cars": 0.8, "none": size / 60}[topic] > draw.random()
        source = "chat" if topic == "none" else f"exam/{topic}"
        rows.append(Row(text, {"strong": float(fails)}, source, ("train", "train", "dev")[i % 3]))
    return rows


def test_a_probability_depends_on_topics_that_sources_name(tmp_path: Path) -> None:
    model = train_router(exams(0), HASHING, Options())
    [head] = model.heads
    assert head.topics is not None
    cars, food, other = head.topics.effects
    assert cars > 0 > food
    assert other == 0
    path = tmp_path / "router.onnx"
    path.write_bytes(to_onnx(model, {}))
    router = Router(path)
    assert router.labels == {"strong": ("no", "yes")}
    fresh = exams(1, 200)
    found = evaluate_rows(router, fresh)
    assert found["strong"]["AUC"] > 0.75
    floats = head.logits(corpus_of([row.text for row in fresh], HASHING))
    file = np.array([router.logits(row.text) for row in fresh])
    assert file.shape == floats.shape
    assert np.abs(floats - file).max() < 0.1 * floats.std()


def test_topics_of_few_rows_are_none() -> None:
    rows = [Row(row.text, row.labels, "exam/cars" if i < 3 else "", row.split) for i, row in enumerate(exams(0, 120))]
    assert train_router(rows, HASHING, Options()).heads[0].topics is None


def test_an_open_label_that_no_row_has_is_refused() -> None:
    with pytest.raises(EdgeMoEError, match="no row has the open label boats"):
        train_router(prompts(0), HASHING, Options(open_labels=("boats",)))


def test_the_same_rows_and_seed_give_the_same_file_with_any_threads() -> None:
    rows = prompts(0, 120)
    files = [to_onnx(train_router(rows, HASHING, Options(seed=s, threads=t)), {}) for s, t in ((5, 1), (5, 3), (6, 1))]
    assert files[0] == files[1] != files[2]


def test_a_head_without_open_labels_always_answers() -> None:
    rows = [
        Row(r.text, {"kind": r.labels["domain"]}, r.source, r.split) for r in prompts(4) if r.labels["domain"] != "none"
    ]
    head = train_router(rows, HASHING, Options()).heads[0]
    assert (head.labels, head.open) == (("cars", "food"), ())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no row has a label"),
        ([Row("a", {})], "no row has a label"),
        ([Row("a", {"x": "one"}), Row("b", {"x": "one"})], "at least two"),
        ([Row("a", {"x": "none"}), Row("b", {"x": "none"})], "at least two"),
        ([Row("a", {"x": "one"}), Row("b", {"x": 1.0})], "texts on some lines and numbers on others"),
        ([Row("a", {"x": "one"}), Row("b", {"x": "two"})], "calibrate"),
        ([Row("a", {"x": 1.0}), Row("b", {"x": 1.0}, split="dev")], "different labels"),
        ([Row("a", {"x": 1.0}), Row("b", {"x": 0.0})], "calibrate"),
    ],
)
def test_rows_that_teach_nothing_are_refused(rows: list[Row], message: str) -> None:
    with pytest.raises(EdgeMoEError, match=message):
        train_router(rows, HASHING, Options(passes=0.1))


# Rows


def written(folder: Path, *lines: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_rows_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '{"text": "a", "label": "x", "split": "test", "source": "s"}',
        "",
        '{"text": "b", "labels": {"p": 0.5, "q": true}, "split": "dev", "judged": false}',
        '{"text": "c"}',
    )
    rows = read_rows([path], "mine")
    assert rows[0] == Row("a", {"mine": "x"}, "s", "test")
    assert rows[1] == Row("b", {"p": 0.5, "q": True}, "", "dev", judged=False)
    assert rows[2].labels == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "has no text"),
        ('{"text": 3}', "has no text"),
        ('{"Text": "soup"}', "there is no key 'Text': did you mean 'text'"),
        ('{"text": "soup", "lable": "food"}', "there is no key 'lable': did you mean 'label'"),
        ('{"text": "soup", "score": [1]}', "did you mean 'scores'"),
        ('{"text": "a", "labels": ["x"]}', "must be an object"),
        ('{"text": "a", "label": 2}', "neither text nor a number"),
        ('{"text": "a", "label": NaN}', "neither text nor a number"),
        ('{"text": "a", "label": ""}', "neither text nor a number"),
        ('{"text": "a", "label": null}', "neither text nor a number"),
        ('{"text": "a", "label": "x", "split": "valid"}', "none of train, dev, test"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, '{"text": "fine", "label": "x"}', line)
    with pytest.raises(EdgeMoEError, match=f"line 2.*{message}"):
        read_rows([path], "mine")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EdgeMoEError, match="not UTF-8"):
        read_rows([tmp_path / "rows.jsonl"], "mine")
    with pytest.raises(EdgeMoEError, match="cannot be read"):
        read_rows([tmp_path / "missing.jsonl"], "mine")


def test_a_tenth_of_rows_without_a_split_is_dev_and_its_place_does_not_matter(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"prompt {i}", "label": "x"}) for i in range(1000)]
    one = {row.text: row.split for row in read_rows([written(tmp_path, *lines)], "mine")}
    other = {row.text: row.split for row in read_rows([written(tmp_path, *reversed(lines))], "mine")}
    assert one == other
    assert 70 < sum(split == "dev" for split in one.values()) < 130


# Sampling and calibration


def test_classes_are_drawn_alike_and_sources_by_a_power_of_their_size() -> None:
    classes, sources = [0] * 100 + [1] * 20, ["a"] * 90 + ["b"] * 10 + ["c"] * 20
    drawn = frequencies(classes, sources, {1: 2.0}, power=0.5)
    assert drawn[:100].sum() == pytest.approx(1)
    assert drawn[100:].sum() == pytest.approx(2)
    assert drawn[:90].sum() / drawn[90:100].sum() == pytest.approx(3)


def test_half_of_every_label_stays_when_sources_are_held_out() -> None:
    labels = ["x"] * 130 + ["y"] * 100
    sources = ["big"] * 90 + ["small"] * 40 + ["one"] * 50 + ["two"] * 50
    groups = held_out(labels, sources, 3)
    assert {source for group in groups for source in group} == {"small", "one", "two"}
    assert not any({"one", "two"} <= group for group in groups[2:])


def test_pieces_are_runs_of_words() -> None:
    text = " ".join(map(str, range(100)))
    for piece in pieces(text, 50, random.Random(0)):
        assert f" {piece} " in f" {text} "
        assert 10 <= len(piece.split()) <= 60
    assert pieces("too short", 3, random.Random(0)) == []


def test_temperature_is_found_again() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(20_000, 3))
    targets = np.array([draw.choice(3, p=p) for p in softmax(logits * 0.5)])
    assert calibration.temperature(logits, targets, np.ones(len(targets))) == pytest.approx(0.5, rel=0.06)


def test_platt_finds_scale_and_shift_again() -> None:
    draw = np.random.default_rng(0)
    z = draw.normal(size=50_000)
    targets = (draw.random(len(z)) < 1 / (1 + np.exp(-(2 * z - 1)))).astype(float)
    assert calibration.platt(z, targets) == pytest.approx((2, -1), abs=0.08)


def test_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    assert calibration.calibration_error(np.full(100, 0.8), np.arange(100) < 80) == pytest.approx(0)
    assert calibration.calibration_error(np.full(100, 0.9), np.arange(100) < 50) == pytest.approx(0.4)


def test_offsets_raise_the_harmonic_mean() -> None:
    draw = np.random.default_rng(1)
    y = draw.integers(-1, 2, 3000)  # -1 is open
    scores = np.log(softmax(draw.normal(size=(3000, 3)) + 2 * np.eye(3)[y] - np.array([3.0, 0.0, 0.0])))
    groups = calibration.groups_of(y, ["s"] * 3000, [-1])
    before = calibration.harmonic_mean(calibration.recalls(scores, groups, np.zeros(2)))
    offsets = calibration.tune_offsets(scores, groups)
    assert calibration.harmonic_mean(calibration.recalls(scores, groups, offsets)) > before + 0.02
    assert offsets[0] > offsets[1]


def test_open_labels_stand_together() -> None:
    labels, zero = ("x", "y", "general", "none"), (0.0,) * 4
    assert choose([0.4, 0.0, 0.35, 0.25], labels, ("general", "none"), zero) == "general"
    assert choose([0.4, 0.0, 0.25, 0.35], labels, ("general", "none"), zero) is None
    assert choose([0.4, 0.0, 0.35, 0.25], labels, ("general", "none"), (1.0, 0, 0, 0)) == "x"
    assert choose([0.2, 0.3, 0.5], labels[:3], (), (0.0,) * 3) == "general"


# The command line


def test_a_router_is_trained_used_and_measured_by_commands(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": row.text, "label": row.labels["domain"], "source": row.source, "split": row.split})
        for row in prompts(0)
    ]
    data, output = written(tmp_path, *lines), tmp_path / "mine.onnx"
    run = CliRunner()
    done = run.invoke(cli, ["route", "train", str(data), "-o", str(output), "--buckets", "8192", "--head", "topic"])
    assert done.exit_code == 0, done.output
    assert "topic: cars, food, none" in done.output
    found = run.invoke(cli, ["route", "classify", "--router", str(output), "--json", "bread and butter and soup"])
    assert json.loads(found.stdout)[0]["choices"] == {"topic": "food"}
    measured = run.invoke(cli, ["route", "eval", str(data), "--router", str(output), "--head", "topic", "--json"])
    assert json.loads(measured.stdout)["heads"]["topic"]["rows"] == 48
    shown = run.invoke(cli, ["route", "eval", str(data), "--router", str(output), "--head", "topic"])
    assert "macro recall" in shown.output


def test_training_does_not_overwrite_its_data(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "soup", "label": "food"}\n')
    done = CliRunner().invoke(cli, ["route", "train", str(data), "-o", str(data)])
    assert done.exit_code == 2
    assert "one of the inputs" in done.output
    assert data.read_text().startswith("{")
    done = CliRunner().invoke(cli, ["route", "train", str(data), "-o", str(tmp_path / "none" / "a.onnx")])
    assert "the folder is missing" in str(done.exception or "") + done.output


def test_labels_that_a_head_does_not_know_are_named() -> None:
    with pytest.raises(EdgeMoEError, match="does not know cdoe, poems"):
        evaluate_rows(Router(), [Row("Hello", {"domain": "poems"}), Row("Hello", {"domain": "cdoe"})])


def test_a_domain_that_no_router_has_is_refused() -> None:
    model = LocalModel("small", domains=("cdoe",))
    with pytest.raises(ConfigError, match="'cdoe'.*code"):
        Decider(Config(local={"small": model}))
