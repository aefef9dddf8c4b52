"""Models that are closed, or change their memory, while other threads use them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edgemoe import EdgeMoEError, Llama
from edgemoe.batching import Batch
from edgemoe.default_model import default_model_path

OPTIONS: dict[str, Any] = {"memory": None, "n_ctx": 512, "n_threads": 1}
PROMPT = "Once upon a time"


@pytest.fixture
def llm() -> Iterator[Llama]:
    with contextlib.closing(Llama(default_model_path(), **OPTIONS)) as model:
        yield model


class Running:
    """What `work` raises on a thread of its own; `begun` is set by it."""

    def __init__(self, work: Callable[[threading.Event], object]) -> None:
        self.begun, self.error = threading.Event(), None
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()

    def _run(self, work: Callable[[threading.Event], object]) -> None:
        try:
            work(self.begun)
        except BaseException as error:
            self.error = error
            self.begun.set()

    def join(self) -> BaseException | None:
        """What it raised, when it has ended."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.error


def streamed(llm: Llama) -> Callable[[threading.Event], None]:
    def work(begun: threading.Event) -> None:
        for _ in llm.create_completion(PROMPT, max_tokens=400, stream=True, stop=["\0"]):
            begun.set()

    return work


def whole(llm: Llama) -> Callable[[threading.Event], None]:
    def work(begun: threading.Event) -> None:
        begun.set()
        while True:
            llm.create_completion(PROMPT, max_tokens=200, temperature=0)

    return work


def evaluated(llm: Llama) -> Callable[[threading.Event], None]:
    def work(begun: threading.Event) -> None:
        begun.set()
        while True:
            llm.reset()
            llm.eval(llm.tokenize(PROMPT.encode()) * 20)
            llm.sample()

    return work


def counted(llm: Llama) -> Callable[[threading.Event], None]:
    def work(begun: threading.Event) -> None:
        while True:
            assert llm.detokenize(llm.tokenize(PROMPT.encode())).decode().strip()
            llm.stats(), llm.resident_bits()
            begun.set()

    return work


def remembered(llm: Llama) -> Callable[[threading.Event], None]:
    def work(begun: threading.Event) -> None:
        while True:
            for memory in (None, "2GiB"):
                llm.set_memory(memory)
            begun.set()

    return work


@pytest.mark.parametrize("use", [streamed, whole, evaluated, counted, remembered])
def test_closing_ends_what_other_threads_do(llm: Llama, use: Callable[[Llama], Any]) -> None:
    for _ in range(3):
        with contextlib.closing(Llama(default_model_path(), **OPTIONS)) as model:
            others = [Running(use(model)) for _ in range(3)]
            assert others[0].begun.wait(60)
            model.close()
            for other in others:
                error = other.join()
                assert isinstance(error, EdgeMoEError), repr(error)
                assert "the model was closed" in str(error)
    assert llm.create_completion(PROMPT, max_tokens=4)["choices"][0]["text"]  # another model does not notice


def test_several_threads_may_close(llm: Llama) -> None:
    other = Running(streamed(llm))
    assert other.begun.wait(60)
    closing = [Running(lambda begun: llm.close()) for _ in range(4)]
    assert [one.join() for one in closing] == [None] * 4
    assert "the model was closed" in str(other.join())


def test_a_stream_that_is_half_read_says_that_its_model_was_closed(llm: Llama) -> None:
    stream = llm.create_completion(PROMPT, max_tokens=20, stream=True)
    next(stream)
    llm.close()
    with pytest.raises(EdgeMoEError, match="the model was closed"):
        next(stream)
    stream.close()


def test_every_use_of_a_closed_model_says_so(llm: Llama) -> None:
    tokenizer = llm.tokenizer()
    state = llm.save_state()
    llm.close()
    uses: list[Callable[[], object]] = [
        lambda: llm(PROMPT),
        lambda: llm.create_chat_completion([{"role": "user", "content": "Hello"}]),
        lambda: llm.tokenize(b"x"),
        lambda: llm.detokenize([1]),
        lambda: llm.eval([1]),
        lambda: llm.sample(),
        lambda: list(llm.generate([1])),
        lambda: llm.save_state(),
        lambda: llm.load_state(state),
        lambda: llm.stats(),
        lambda: llm.resident_bits(),
        lambda: llm.set_memory(None),
        lambda: llm.set_quality("exact"),
        lambda: llm.expert_groups,
        lambda: llm.n_ctx(),
        lambda: llm.n_vocab(),
        lambda: llm.token_eos(),
        lambda: Batch(llm),
    ]
    for use in uses:
        with pytest.raises(EdgeMoEError, match="the model was closed"):
            use()
    with pytest.raises(
        Exception, match="the model was closed|argument 1"
    ):  # ctypes refuses it before llama.cpp crashes
        tokenizer.tokenize(b"x")
    llm.cancel()
    llm.close()


def test_a_request_cannot_close_the_model_that_runs_it(llm: Llama) -> None:
    def stop(tokens: Any, logits: Any) -> bool:
        llm.close()
        return True

    from llama_cpp import StoppingCriteriaList

    with pytest.raises(EdgeMoEError, match="end the request first"):
        llm.create_completion(PROMPT, max_tokens=20, stopping_criteria=StoppingCriteriaList([stop]))
    assert llm.create_completion(PROMPT, max_tokens=4)["choices"][0]["text"]


def test_sequences_of_a_closed_model(llm: Llama) -> None:
    with Batch(llm) as batch:
        batch.add(llm.tokenize(PROMPT.encode()))
        batch.step()
        llm.close()
        with pytest.raises(EdgeMoEError, match="the model was closed"):
            batch.step()


def test_memory_changes_beside_requests_of_several_threads(llm: Llama) -> None:
    expected = llm.create_completion(PROMPT, max_tokens=60, temperature=0)["choices"][0]["text"]
    changing = threading.Event()

    def change(begun: threading.Event) -> None:
        while not changing.is_set():
            for memory in ("1GiB", "2GiB", None):
                llm.set_memory(memory)
            begun.set()

    changers = [Running(change) for _ in range(2)]
    assert all(changer.begun.wait(60) for changer in changers)
    for _ in range(3):
        assert llm.create_completion(PROMPT, max_tokens=60, temperature=0)["choices"][0]["text"] == expected
    changing.set()
    assert [changer.join() for changer in changers] == [None, None]
