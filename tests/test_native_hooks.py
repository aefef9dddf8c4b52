"""The hooks in llama.cpp: each thread has its own, assertions become errors, and what is on disk is never zeros."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp.llama_cpp as bindings
import numpy as np
import pytest

from edgemoe import EdgeMoEError, Llama, ModelError, ReadError, _native
from edgemoe.experts import library
from edgemoe.experts.loading import collected_log
from models import write_model
from models.corrupt import corrupt
from stock import decode_logits, stock_llama

SMALL = {"n_embd": 64, "n_expert": 8, "n_layer": 2, "n_ff_exp": 64}
CONTEXT = {"n_ctx": 64, "n_threads": 1, "n_threads_batch": 1}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("good") / "good.gguf", "qwen3moe", **SMALL)[0]


def in_thread(work: Callable[[], object]) -> object:
    """The result of `work` on a thread of its own."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


# The load hook


def load(path: Path) -> object:
    return bindings.llama_model_load_from_file(str(path).encode(), bindings.llama_model_default_params())


def test_the_load_hook_belongs_to_one_thread(good: Path) -> None:
    asked: list[object] = []

    def hook(params: object) -> str:
        asked.append(params)
        return "hooked"

    with library.model_load(hook):
        assert load(good) == "hooked"
        other = in_thread(lambda: load(good))
        assert other not in (None, "hooked")
        bindings.llama_model_free(other)
        assert in_thread(lambda: load(good.with_name("missing.gguf"))) is None
        assert load(good) == "hooked"
    assert len(asked) == 2
    plain = load(good)
    assert plain not in (None, "hooked")
    bindings.llama_model_free(plain)


def test_the_load_hook_is_gone_after_an_error(good: Path) -> None:
    with contextlib.suppress(RuntimeError), library.model_load(lambda params: "hooked"):
        raise RuntimeError
    plain = load(good)
    assert plain != "hooked"
    bindings.llama_model_free(plain)


def test_the_library_is_hooked_once() -> None:
    hooked = bindings.llama_model_load_from_file
    library.load()
    assert bindings.llama_model_load_from_file is hooked


def test_a_plain_model_opens_while_ours_is_loading(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other thread's model is not given our stream, and computes what it always does."""
    with contextlib.closing(stock_llama(good, **CONTEXT)) as stock:
        expected = decode_logits(stock, [1, 2, 3])
    found: list[np.ndarray] = []
    original = bindings.llama_model_load_from_file_ptr

    def while_loading(stream: object, params: object) -> object:
        def plain() -> np.ndarray:
            with contextlib.closing(stock_llama(good, **CONTEXT)) as stock:
                return decode_logits(stock, [1, 2, 3])

        if not params.no_alloc:
            found.append(in_thread(plain))
        return original(stream, params)

    monkeypatch.setattr(bindings, "llama_model_load_from_file_ptr", while_loading)
    with contextlib.closing(Llama(good, **CONTEXT)) as llm:
        np.testing.assert_array_equal(decode_logits(llm, [1, 2, 3]), expected)
    assert len(found) == 1
    np.testing.assert_array_equal(found[0], expected)


# Logs and assertions


def test_logs_are_collected_by_thread(tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    with collected_log(quiet=True) as log:
        in_thread(lambda: load(missing))
        assert log.errors() == ""
        assert load(missing) is None
        assert "missing.gguf" in log.errors()

    def elsewhere() -> str:
        with collected_log(quiet=True) as other:
            return other.errors() + other.log().decode()

    assert in_thread(elsewhere) == ""


# Where stock llama.cpp's loader runs into an assertion, which ends the process.
ASSERTING = ["expert-count-absurd", "expert-used-above-count", "block-count-absurd", "token-twice"]

STOCK = """
import sys, llama_cpp
try:
    llama_cpp.Llama(sys.argv[1], n_ctx=64, verbose=False)
except ValueError:
    print("refused")
"""


@pytest.mark.parametrize("kind", ASSERTING)
def test_assertions_of_the_loader_become_errors(good: Path, tmp_path: Path, kind: str) -> None:
    bad = corrupt(good, kind, tmp_path)
    for _ in range(2):
        with pytest.raises(ModelError, match="GGML_ASSERT") as caught:
            Llama(bad, **CONTEXT)
        assert bad.name in str(caught.value)
    with contextlib.closing(Llama(good, **CONTEXT)) as llm:
        llm.eval([1, 2, 3])


def test_without_the_guard_an_assertion_ends_the_process(good: Path, tmp_path: Path) -> None:
    """Which is why the guard is there: if this changes in llama.cpp, the guard can go."""
    bad = corrupt(good, "expert-count-absurd", tmp_path)
    done = subprocess.run([sys.executable, "-c", STOCK, str(bad)], capture_output=True, text=True, check=False)
    assert done.returncode < 0
    assert not done.stdout


def test_guards_nest() -> None:
    outer = _native.LibraryGuard(quiet=True)
    inner = _native.LibraryGuard(quiet=True)
    inner.close()
    inner.close()
    assert load(Path("missing-model.gguf")) is None
    assert "missing-model.gguf" in outer.errors()
    outer.close()


# Reading what stays on disk


@pytest.fixture
def llm(good: Path) -> Iterator[Llama]:
    with contextlib.closing(Llama(good, **CONTEXT)) as model:
        yield model


def read_tensor(llm: Llama, name: str, count: int) -> bytes:
    """The first bytes of a tensor of the loaded model, as ggml gives them."""
    library_handle = bindings._lib
    find = library_handle._ZNK11llama_model10get_tensorEPKc
    find.argtypes, find.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_void_p
    get = library_handle.ggml_backend_tensor_get
    get.argtypes, get.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t], None
    tensor = find(llm._model.model, name.encode())
    assert tensor
    data = (ctypes.c_uint8 * count)()
    get(tensor, data, 0, count)
    return bytes(data)


def test_reading_a_reserved_tensor_is_an_error(llm: Llama) -> None:
    name = "blk.1.ffn_up_exps.weight"
    data = read_tensor(llm, name, 64)
    assert np.isnan(np.frombuffer(data, np.float16)).all()
    with pytest.raises(ModelError, match=name):
        llm._residence._engine.raise_error()
    llm._residence._engine.raise_error()  # told once


def test_reading_a_dense_tensor_is_not(llm: Llama, good: Path) -> None:
    with contextlib.closing(stock_llama(good, **CONTEXT)) as stock:
        expected = read_tensor(stock, "blk.1.attn_q.weight", 256)
    assert read_tensor(llm, "blk.1.attn_q.weight", 256) == expected
    llm._residence._engine.raise_error()


def test_saving_the_model_is_an_error(llm: Llama, tmp_path: Path) -> None:
    """llama.cpp's own way to read every tensor."""
    bindings.llama_model_save_to_file(llm._model.model, str(tmp_path / "saved.gguf").encode())
    with pytest.raises(ModelError, match="stays on disk"):
        llm._residence._engine.raise_error()


def test_an_earlier_error_does_not_explain_a_later_failure(model_factory) -> None:
    path = model_factory("qwen3moe", n_expert=32, expert_type="Q8_0")[0]
    with contextlib.closing(Llama(path, n_ctx=256, cache="40%")) as model:
        read_tensor(model, "blk.1.ffn_up_exps.weight", 64)  # nobody asked for the error that this left
        model.eval([1, 2, 3])
        _native.set_read_fault(fail_after_bytes=1)
        try:
            with pytest.raises(EdgeMoEError) as caught:
                model.eval(list(range(100, 150)))
        finally:
            _native.set_read_fault()
        assert isinstance(caught.value, ReadError), caught.value
