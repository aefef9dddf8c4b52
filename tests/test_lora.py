"""LoRA adapters on attention and on experts: stock llama.cpp's numbers, counted memory, and errors for broken ones."""

from __future__ import annotations

import contextlib
import ctypes
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import llama_cpp.llama_cpp as bindings
import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from edgemoe import BudgetError, EdgeMoEError, Llama, ModelError
from models.lora import write_lora
from stock import decode_logits, greedy, prompt_logits, stock_llama

CONTEXT = {"n_ctx": 256, "n_batch": 128, "n_ubatch": 128, "n_threads": 2, "n_threads_batch": 2}
MIB = 1 << 20

ADAPTED = [
    ("qwen3moe", ("attn_q", "attn_output")),
    ("qwen3moe", ("ffn_up_exps",)),
    ("qwen3moe", ("attn_q", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")),
    ("gpt-oss", ("ffn_gate_exps", "ffn_down_exps")),
    ("deepseek2-merged", ("ffn_gate_up_exps", "ffn_down_exps")),
    ("nemotron_h_moe", ("ffn_up_exps", "ffn_down_exps")),
]


def some_tokens(count: int, seed: int) -> list[int]:
    return [random.Random(seed + i).randrange(200) for i in range(count)]


def numbers(llm: object) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Logits of single tokens and of a prompt, and greedy tokens."""
    single = decode_logits(llm, some_tokens(12, seed=0))
    prompt = prompt_logits(llm, some_tokens(64, seed=1))
    return single, prompt, greedy(llm, some_tokens(8, seed=2), 16)


def check_equal(ours: tuple, theirs: tuple) -> None:
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])
    assert ours[2] == theirs[2]


@contextlib.contextmanager
def low_level_adapter(llm: object, path: Path, scale: float):
    """The adapter through llama.cpp's own functions, as a program without `lora_path` would do it."""
    adapter = bindings.llama_adapter_lora_init(llm._model.model, str(path).encode())
    assert adapter
    adapters = (bindings.llama_adapter_lora_p_ctypes * 1)(adapter)
    assert bindings.llama_set_adapters_lora(llm._ctx.ctx, adapters, 1, (ctypes.c_float * 1)(scale)) == 0
    try:
        yield
    finally:
        bindings.llama_set_adapters_lora(llm._ctx.ctx, None, 0, None)
        bindings.llama_adapter_lora_free(adapter)


@pytest.mark.parametrize(("arch", "targets"), ADAPTED)
def test_adapters_give_stocks_numbers(model_factory, tmp_path: Path, arch: str, targets: tuple[str, ...]) -> None:
    files = model_factory(arch)
    adapter = str(write_lora(tmp_path / "adapter.gguf", files, targets=targets))
    with contextlib.closing(stock_llama(files[0], lora_path=adapter, **CONTEXT)) as stock:
        expected = numbers(stock)
    with contextlib.closing(Llama(files[0], lora_path=adapter, **CONTEXT)) as llm:
        check_equal(numbers(llm), expected)
    with contextlib.closing(Llama(files[0], **CONTEXT)) as plain:
        assert np.abs(decode_logits(plain, some_tokens(12, seed=0)) - expected[0]).mean() > 0.01


def test_scale_and_small_cache(model_factory, tmp_path: Path) -> None:
    files = model_factory("qwen3moe", expert_type="Q4_K", n_expert=32)
    adapter = str(write_lora(tmp_path / "adapter.gguf", files, targets=("ffn_up_exps", "ffn_down_exps")))
    options = CONTEXT | {"lora_path": adapter, "lora_scale": 0.3}
    with contextlib.closing(stock_llama(files[0], **options)) as stock:
        expected = numbers(stock)
    with contextlib.closing(Llama(files[0], cache="40%", **options)) as llm:
        check_equal(numbers(llm), expected)


def test_low_level_adapters_come_and_go(model_factory, tmp_path: Path) -> None:
    files = model_factory("qwen3moe", expert_type="Q8_0")
    first = write_lora(tmp_path / "first.gguf", files, targets=("ffn_up_exps", "attn_q"))
    second = write_lora(tmp_path / "second.gguf", files, targets=("ffn_down_exps",), seed=1, rank=8)
    with (
        contextlib.closing(stock_llama(files[0], **CONTEXT)) as stock,
        contextlib.closing(Llama(files[0], **CONTEXT)) as llm,
    ):
        plain = numbers(stock)
        check_equal(numbers(llm), plain)
        for path, scale in ((first, 1.0), (second, 0.5), (first, 0.25)):
            with low_level_adapter(stock, path, scale), low_level_adapter(llm, path, scale):
                expected = numbers(stock)
                check_equal(numbers(llm), expected)
                assert np.abs(expected[0] - plain[0]).max() > 0
        check_equal(numbers(llm), plain)


# Memory


@pytest.fixture(scope="module")
def large_adapter(model_factory, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """A model and an adapter of tens of MiB."""
    files = model_factory("qwen3moe", n_expert=64)
    folder = tmp_path_factory.mktemp("adapter")
    return files, write_lora(folder / "large.gguf", files, targets=("ffn_up_exps", "ffn_gate_exps"), rank=48)


def weights_of(adapter: Path) -> int:
    return sum(int(tensor.n_bytes) for tensor in GGUFReader(adapter).tensors)


def test_an_adapter_takes_its_part_of_the_budget(large_adapter) -> None:
    files, adapter = large_adapter
    size = weights_of(adapter)
    assert size > 24 * MIB
    with contextlib.closing(Llama(files[0], memory="20GiB", lora_path=str(adapter), **CONTEXT)) as llm:
        plan = llm._residence.plan
        assert plan.parts["adapters"] >= size
        with_adapter = plan.smallest - plan.parts["Python and libraries"]
    with contextlib.closing(Llama(files[0], memory="20GiB", **CONTEXT)) as llm:
        without = llm._residence.plan.smallest - llm._residence.plan.parts["Python and libraries"]
    assert with_adapter - without >= size


# Prints the smallest budget that the refusal of a tiny one names, and what it says of adapters.
SMALLEST = """
import re, sys
from edgemoe import BudgetError, Llama
from edgemoe.sizes import parse_size
try:
    Llama(sys.argv[1], memory="8MiB", n_ctx=256, n_batch=128, lora_path=sys.argv[2] if len(sys.argv) > 2 else None)
except BudgetError as error:
    print(parse_size(re.search(r"smallest is ([0-9.]+ \\w+)", str(error))[1]), "adapters" in str(error))
"""


def test_the_smallest_budget_grows_by_the_adapter(large_adapter) -> None:
    files, adapter = large_adapter
    smallest = []
    for arguments in ([str(files[0])], [str(files[0]), str(adapter)]):
        done = subprocess.run([sys.executable, "-c", SMALLEST, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        size, named = done.stdout.split()
        smallest.append(int(size))
        assert named == str(len(arguments) == 2)
    assert smallest[1] - smallest[0] >= weights_of(adapter) - 4 * MIB


def test_the_cache_gives_way_to_the_adapter(large_adapter) -> None:
    files, adapter = large_adapter
    code = """
import sys
from edgemoe import Llama
options = dict(n_ctx=256, n_batch=128, n_ubatch=128)
model = Llama(sys.argv[1], memory=None, **options)
budget = model._residence.plan.comfortable
model.close()
for lora in (None, sys.argv[2]):
    model = Llama(sys.argv[1], memory=budget, lora_path=lora, **options)
    print(model.stats().cache_bytes)
    model.close()
"""
    command = [sys.executable, "-c", code, str(files[0]), str(adapter)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    without, with_adapter = map(int, done.stdout.split())
    assert 0 < with_adapter < without - weights_of(adapter) // 3


# Broken adapters


def _missing(path: Path, good: Path) -> None:
    pass


def _text(path: Path, good: Path) -> None:
    path.write_text("this is no adapter\n" * 50)


def _short_header(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:200])


def _short_data(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:-1000])


def _directory(path: Path, good: Path) -> None:
    path.mkdir()


def _rewrite(
    path: Path,
    good: Path,
    *,
    arch: str = "qwen3moe",
    kind: str = "adapter",
    alpha: object = 8.0,
    change: Callable[[str, np.ndarray], tuple[str, np.ndarray] | None] = lambda name, data: (name, data),
) -> None:
    writer = GGUFWriter(path, arch)
    writer.add_type(kind)
    writer.add_string("adapter.type", "lora")
    if isinstance(alpha, float):
        writer.add_float32("adapter.lora.alpha", alpha)
    else:
        writer.add_string("adapter.lora.alpha", str(alpha))
    for tensor in GGUFReader(good).tensors:
        if changed := change(tensor.name, np.array(tensor.data)):
            writer.add_tensor(*changed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


BROKEN: dict[str, Callable[[Path, Path], None]] = {
    "missing": _missing,
    "text": _text,
    "a directory": _directory,
    "short header": _short_header,
    "short data": _short_data,
    "another architecture": lambda path, good: _rewrite(path, good, arch="olmoe"),
    "no adapter": lambda path, good: _rewrite(path, good, kind="model"),
    "alpha is text": lambda path, good: _rewrite(path, good, alpha="much"),
    "half a pair": lambda path, good: _rewrite(
        path, good, change=lambda name, data: None if name.endswith("lora_b") else (name, data)
    ),
    "unknown tensor": lambda path, good: _rewrite(
        path, good, change=lambda name, data: (name.replace("blk.0", "blk.99"), data)
    ),
    "too narrow": lambda path, good: _rewrite(
        path, good, change=lambda name, data: (name, np.ascontiguousarray(data[..., : data.shape[-1] // 2]))
    ),
    "too few experts": lambda path, good: _rewrite(
        path, good, change=lambda name, data: (name, data[:2] if "exps" in name else data)
    ),
    "not by expert": lambda path, good: _rewrite(
        path, good, change=lambda name, data: (name, data[0] if "exps" in name else data)
    ),
}

# Opens the model with the adapter and computes; whatever happens must be an EdgeMoEError.
PROBE = """
import sys
from edgemoe import EdgeMoEError, Llama
try:
    model = Llama(sys.argv[1], n_ctx=64, n_threads=1, lora_path=sys.argv[2])
    model.eval(list(range(40)))
    print("accepted")
except EdgeMoEError as error:
    print("refused", str(error).replace("\\n", " "))
"""


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_adapters_are_refused(model_factory, tmp_path: Path, kind: str) -> None:
    files = model_factory("qwen3moe", n_ff_exp=64)
    good = write_lora(tmp_path / "good.gguf", files, targets=("attn_q", "ffn_up_exps"))
    bad = tmp_path / "bad.gguf"
    BROKEN[kind](bad, good)
    command = [sys.executable, "-X", "faulthandler", "-c", PROBE, str(files[0]), str(bad)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("refused"), done.stdout + done.stderr[-2000:]


def test_after_a_broken_adapter_the_model_opens(model_factory, tmp_path: Path) -> None:
    files = model_factory("qwen3moe", n_ff_exp=64)
    good = write_lora(tmp_path / "good.gguf", files, targets=("ffn_up_exps",))
    bad = tmp_path / "bad.gguf"
    shutil.copyfile(good, bad)
    with bad.open("r+b") as file:
        file.truncate(good.stat().st_size // 2)
    for _ in range(3):
        with pytest.raises(ModelError) as caught:
            Llama(files[0], lora_path=str(bad), **CONTEXT)
        assert isinstance(caught.value, EdgeMoEError)
        assert not isinstance(caught.value, BudgetError)
    with contextlib.closing(Llama(files[0], lora_path=str(good), **CONTEXT)) as llm:
        assert np.isfinite(decode_logits(llm, [1, 2, 3])).all()
