"""Heads that choose levels for a mean of bits: their fit, what the engine makes of them, and packs that lie."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import xxhash

from edgemoe import Llama
from edgemoe.batching import Batch
from edgemoe.cli import main
from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError, ModelError
from edgemoe.experts.quality import HEAD_BITS, TARGETS
from edgemoe.level_heads import HeadTrainer
from edgemoe.packs.heads import PRICES, RANK, fit_head, no_head, prices_of
from edgemoe.packs.layout import CHECKSUMS, Group, plane_bytes
from edgemoe.packs.plan import Settings
from edgemoe.packs.reader import Pack
from edgemoe.packs.verify import verify
from edgemoe.packs.writer import pack
from models import write_model
from stock import decode_logits, prompt_logits

CONTEXT = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512, "n_threads": 1, "n_threads_batch": 1}
TOKENS = [(7 * i * i + 3 * i) % 200 + 5 for i in range(48)]
SIZES = {"n_expert": 16, "n_expert_used": 4, "n_layer": 2, "n_ff_exp": 256, "n_embd": 256}
TEXT = "The fox asked the crow for a song, and the crow dropped what it held. " * 80


def opened(path: Path, **options: object) -> contextlib.closing[Llama]:
    return contextlib.closing(Llama(path, **({"memory": None, "read_ahead": False} | CONTEXT | options)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("heads") / "source.gguf", "qwen3moe", expert_type="F16", **SIZES)[0]


@pytest.fixture(scope="module")
def trained(source: Path) -> Path:
    return pack(source, source.with_name("trained.mwq.gguf"), Settings(heads=HeadTrainer(TEXT))).path


@pytest.fixture(scope="module")
def plain(source: Path) -> Path:
    return pack(source, source.with_name("plain.mwq.gguf"), Settings()).path


def part(pack_: Pack, name: str) -> np.ndarray:
    entry = pack_.entries[name]
    return pack_.read(entry.offset, entry.bytes).view("<f4").reshape(entry.shape[::-1])


def rewritten(path: Path, to: Path, parts: dict[str, np.ndarray], *, sealed: bool = False) -> Path:
    """A copy whose tensors of these names hold these values; `sealed`: with checksums that are theirs."""
    shutil.copy(path, to)
    with Pack(path) as opened_pack, to.open("r+b") as file:
        entries = opened_pack.entries
        for name, values in parts.items():
            data = np.asarray(values, "<f4").tobytes()
            file.seek(entries[name].offset)
            file.write(data)
            if sealed:
                file.seek(entries[CHECKSUMS].offset + 8 * (1 + list(entries).index(name)))
                file.write(xxhash.xxh3_64_intdigest(data).to_bytes(8, "little"))
    return to


def with_constants(path: Path, to: Path, exponents: np.ndarray) -> Path:
    """A copy whose heads say exp(exponents[e]) of expert e, whatever the input."""
    with Pack(path) as opened_pack:
        groups = [group.name for group in opened_pack.groups]
    constant = np.zeros((SIZES["n_expert"], RANK + 1))
    constant[:, RANK] = exponents
    return rewritten(path, to, {f"{name}.mwq.head.out": constant for name in groups}, sealed=True)


# Fitting


def test_a_head_learns_what_depends_on_the_input() -> None:
    chance = np.random.default_rng(0)
    x = chance.standard_normal((6000, 64)).astype(np.float32) * 3 + 1
    directions = chance.standard_normal((64, 3)) / 24
    own = chance.standard_normal((8, 3))
    experts = chance.integers(0, 8, 6000)
    logs = np.einsum("ij,ij->i", x @ directions, own[experts]) + experts
    losses = np.exp(logs + 0.1 * chance.standard_normal(6000))
    head = fit_head(x[:5000], experts[:5000], losses[:5000], 8, rank=4)
    found = np.log(head.weights(x[5000:], experts[5000:]))
    assert np.std(found - logs[5000:]) < 0.2 < 1 < np.std(logs[5000:] - experts[5000:])
    mean = np.array([losses[:5000][experts[:5000] == e].mean() for e in range(8)])
    said = np.array([head.weights(x[:5000], np.full(5000, e))[experts[:5000] == e].mean() for e in range(8)])
    assert np.allclose(said, mean, rtol=0.2)


def test_a_head_of_few_rows_and_unseen_experts_says_what_is_usual() -> None:
    chance = np.random.default_rng(1)
    x = chance.standard_normal((40, 64)).astype(np.float32)
    experts = chance.integers(0, 4, 40)
    head = fit_head(x, experts, np.full(40, 7.0), 6)
    assert head.inward.shape == (RANK, 64)
    assert head.outward.shape == (6, RANK + 1)
    assert np.allclose(head.weights(x, np.full(40, 5)), 7.0, rtol=0.01)
    assert (no_head(64, 6).weights(x, experts) == 1).all()


def test_prices_part_all_bytes_evenly() -> None:
    values = [np.arange(1.0, 641.0), np.array([1000.0])]
    prices = prices_of(values, [np.full(640, 1.0), np.array([640.0])])
    assert prices.shape == (PRICES,)
    assert (np.diff(prices) <= 0).all()
    assert prices[0] == prices[16] == 1000.0  # half of all bytes are one plane's
    assert prices[48] == pytest.approx(320, abs=2)
    assert prices[-1] == 0
    assert (prices_of([], []) == 0).all()


# Packs


def test_heads_are_in_the_pack_and_depend_on_the_text_alone(source: Path, trained: Path, tmp_path: Path) -> None:
    assert verify(trained).damages == []
    with Pack(trained) as opened_pack:
        for group in opened_pack.groups:
            assert part(opened_pack, group.tensor_name("head.in")).shape == (RANK, 256)
            assert part(opened_pack, group.tensor_name("head.out")).shape == (16, RANK + 1)
        prices = part(opened_pack, "mwq.prices")
    assert prices[0] > prices[32] > prices[-1] == 0
    again = pack(source, tmp_path / "again.mwq.gguf", Settings(heads=HeadTrainer(TEXT), threads=1))
    assert again.path.read_bytes() == trained.read_bytes()


def test_a_pack_of_one_level_has_no_heads(source: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeMoEError, match="nothing to choose"):
        pack(source, tmp_path / "x.mwq.gguf", Settings(levels=(2,), heads=HeadTrainer(TEXT)))


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("blk.0.exps.mwq.head.in", 3, np.nan, "blk.0.exps.mwq.head.in holds nan"),
        ("blk.1.exps.mwq.head.out", 0, np.inf, "blk.1.exps.mwq.head.out holds inf"),
        ("mwq.prices", 5, np.nan, "mwq.prices holds nan"),
        ("mwq.prices", 40, 1e9, "mwq.prices rise or are below 0"),
        ("mwq.prices", PRICES - 1, -1, "mwq.prices rise or are below 0"),
    ],
)
def test_damaged_heads_are_refused(
    trained: Path, tmp_path: Path, name: str, place: int, value: float, message: str
) -> None:
    with Pack(trained) as opened_pack:
        values = part(opened_pack, name).copy()
    values.reshape(-1)[place] = value
    path = rewritten(trained, tmp_path / "damaged.mwq.gguf", {name: values})
    with pytest.raises(ModelError, match=message):
        Llama(path, n_ctx=64)


# Use


def test_the_mean_of_bits_is_what_was_asked_for(trained: Path) -> None:
    used = []
    for bits in (2.8, 3.2, 3.6, 4.2):
        with opened(trained, quality=f"bits:{bits}", cache=0.16) as llm:
            for token in llm.tokenize(TEXT.encode())[:200]:
                llm.eval([token])
            used.append(llm.stats().bits_per_weight)
    assert used == pytest.approx([2.8, 3.2, 3.6, 4.2], abs=0.25)


def test_a_head_gives_each_expert_its_level(trained: Path, tmp_path: Path) -> None:
    high = np.arange(16) % 3 == 0
    path = with_constants(trained, tmp_path / "constant.mwq.gguf", np.where(high, 70.0, -70.0))
    with opened(path, quality="bits:3.2") as llm, opened(path) as fixed:
        for group in fixed.expert_groups:
            fixed.set_expert_levels(group, [4 if is_high else 2 for is_high in high])
        assert np.array_equal(prompt_logits(llm, TOKENS), prompt_logits(fixed, TOKENS))
        assert np.array_equal(decode_logits(llm, TOKENS), decode_logits(fixed, TOKENS))
        assert llm.stats().bits_per_weight == fixed.stats().bits_per_weight < 4


@pytest.mark.parametrize("count", [1, 30])
def test_planes_are_chosen_as_the_format_says(trained: Path, count: int) -> None:
    """By hand, from the inputs and router weights that the engine reports of a first batch: nothing is in memory."""
    with opened(trained, quality="bits:3.4", logits_all=True) as llm, Pack(trained) as opened_pack:
        llm.observe_experts(range(2))
        llm.eval(TOKENS[:count])
        used = llm.stats().used_bits
        squares = iter(llm.take_expert_weights())
        inputs = {(names[0], expert): rows for names, expert, rows in llm.take_expert_inputs()}
        expected = 0
        for group in opened_pack.groups:
            own = sorted(e for name, e in inputs if name == group.tensors[0].name)
            for expert in own:
                seen, weights = next(squares)
                assert seen == expert
                expected += expected_bits(opened_pack, group, expert, inputs[group.tensors[0].name, expert], weights)
        assert next(squares, None) is None
    assert used == expected


def expected_bits(opened_pack: Pack, group: Group, expert: int, x: np.ndarray, squares: list[float]) -> int:
    """Of the expert's planes, for each of its rows `x`."""
    inward = part(opened_pack, group.tensor_name("head.in"))
    outward = part(opened_pack, group.tensor_name("head.out"))[expert]
    hotness = np.mean(np.exp(x @ inward.T @ outward[:-1] + outward[-1]) * squares)
    sizes = [sum(plane_bytes(t, level, biased=False) for t in group.tensors) for level in opened_pack.levels]
    weights = group.weights
    share = (3.4 * weights / 8 - sizes[0]) / sum(sizes[1:])
    price = np.interp(share * (PRICES - 1), range(PRICES), part(opened_pack, "mwq.prices"))
    errors = opened_pack.errors(group)[expert]
    planes = 1
    while planes < len(sizes) and hotness * (errors[planes - 1] - errors[planes]) / sizes[planes] >= price:
        planes += 1
    return 8 * sum(sizes[:planes]) * len(x)


def test_planes_in_memory_are_used(trained: Path) -> None:
    with opened(trained, quality="exact") as llm:
        whole = decode_logits(llm, TOKENS)
        llm.set_quality("bits:2.7")
        read = llm.stats().bytes_read
        assert np.array_equal(decode_logits(llm, TOKENS), whole)
        assert llm.stats().bytes_read == read


def test_qualities_can_be_changed_and_asked_for(trained: Path) -> None:
    with opened(trained, quality="bits:2.7", cache=0.3) as llm, opened(trained) as exact:
        cheap = decode_logits(llm, TOKENS)
        llm.set_quality("exact")
        assert np.array_equal(decode_logits(llm, TOKENS), decode_logits(exact, TOKENS))
        assert not np.array_equal(cheap, decode_logits(llm, TOKENS))
        assert llm("Once", max_tokens=2, quality="bits:2.7")["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize(
    ("quality", "message"),
    [("bits:2.5", "this pack has 2.57 to 4.57"), ("bits:4.9", "out of reach"), ("bits:0", "experts have bits")]
    + [("bits:", "is unknown"), ("bits:-3", "is unknown"), ("bits:nan", "is unknown"), ("bits:1e1", "is unknown")],
)
def test_bits_out_of_reach_are_refused(trained: Path, quality: str, message: str) -> None:
    with pytest.raises(EdgeMoEError, match=message):
        Llama(trained, n_ctx=64, quality=quality)
    with opened(trained, quality="bits:3") as llm:
        with pytest.raises(EdgeMoEError, match=message):
            llm.set_quality(quality)
        decode_logits(llm, TOKENS[:4])
        assert llm.stats().bits_per_weight < 4.5


def test_files_without_heads_say_so(plain: Path, source: Path) -> None:
    with pytest.raises(EdgeMoEError, match="has no heads.*--calibrate"):
        Llama(plain, n_ctx=64, quality="bits:3")
    with pytest.raises(EdgeMoEError, match="needs a pack"):
        Llama(source, n_ctx=64, quality="bits:3")
    with opened(plain) as llm, pytest.raises(EdgeMoEError, match="has no heads"):
        llm.set_quality("bits:3")


@pytest.mark.parametrize("name", HEAD_BITS)
def test_names_are_means_of_bits_where_there_are_heads(trained: Path, plain: Path, name: str) -> None:
    least, most = 2.57, 4.57
    with opened(trained, quality=name, cache=0.16) as llm, opened(trained, cache=0.16) as asked:
        asked.set_quality(f"bits:{min(least + HEAD_BITS[name], most):.6f}")
        assert llm._residence._engine.head_bits() == pytest.approx((least, most), abs=0.005)
        for token in TOKENS:
            llm.eval([token])
            asked.eval([token])
        assert llm.stats().bits_per_weight == pytest.approx(asked.stats().bits_per_weight, abs=0.02)
    with opened(trained, quality=TARGETS[name], cache=0.16) as target, opened(plain, quality=name, cache=0.16) as same:
        assert np.array_equal(decode_logits(target, TOKENS), decode_logits(same, TOKENS))


def test_named_qualities_side_by_side_are_targets(trained: Path) -> None:
    with opened(trained, quality="balanced", n_seq_max=2) as llm, Batch(llm) as batch:
        batch.add(TOKENS[:10])
        batch.add(TOKENS[:10], quality="fast")
        assert len(batch.step()) == 2


def test_a_sequence_has_no_mean_of_bits_of_its_own(trained: Path) -> None:
    with opened(trained, quality="bits:3", n_seq_max=2) as llm, Batch(llm) as batch:
        with pytest.raises(EdgeMoEError, match="of a whole model"):
            batch.add(TOKENS, quality="bits:3.5")
        batch.add(TOKENS[:10])
        batch.add(TOKENS[:10], quality="fast")
        assert len(batch.step()) == 2


@pytest.mark.parametrize(("quality", "why"), [("bits:9", "out of reach"), ("bits:2", "out of reach"), ("bits:3", "")])
def test_plans_are_made_for_a_mean_that_the_pack_can_give(
    quality: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["plan", str(default_model_path()), "--machine", "m1-air", "--quality", quality])
    assert left.value.code == (2 if why else 0)
    assert why in capsys.readouterr().err


def test_no_plan_is_made_for_a_mean_without_heads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_model(tmp_path / "source.gguf", "qwen3moe", expert_type="Q4_K")[0]
    with pytest.raises(SystemExit) as left:
        main(["plan", str(pack(source, tmp_path / "x.mwq.gguf").path), "--machine", "m1-air", "--quality", "bits:3"])
    assert left.value.code == 2
    assert "no heads" in capsys.readouterr().err
