"""The whole public API, with the types that a checker finds: mypy --strict examples/typed_api.py

It runs as well: python examples/typed_api.py [MODEL]. `assert_type` fails when a type is another one.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from llama_cpp import LlamaState
from llama_cpp.llama_types import (
    CreateChatCompletionResponse,
    CreateChatCompletionStreamResponse,
    CreateCompletionResponse,
    CreateCompletionStreamResponse,
)
from typing_extensions import assert_type

import edgemoe
from edgemoe import (
    Assistant,
    BudgetError,
    Cancelled,
    Classification,
    CloudError,
    Config,
    ConfigError,
    Decision,
    DownloadError,
    EdgeMoEError,
    Llama,
    ModelError,
    ReadError,
    Router,
    Stats,
    VersionError,
    WriteError,
)
from edgemoe.batching import Batch, Row
from edgemoe.cloud import Cloud, Endpoint, Ledger
from edgemoe.config import LocalModel
from edgemoe.default_model import default_model_path


def requests(llm: Llama) -> None:
    """A call is typed by `stream`; a misspelt argument is an error."""
    assert_type(llm("Once upon a time", max_tokens=4), CreateCompletionResponse)
    stream = llm("Once upon a time", max_tokens=4, stream=True)
    assert_type(stream, Generator[CreateCompletionStreamResponse, None, None])
    print("".join(chunk["choices"][0]["text"] for chunk in stream))
    tokens = assert_type(llm.tokenize(b"Once upon a time"), list[int])
    print(assert_type(llm.detokenize(tokens), bytes).decode())
    llm.reset()
    llm.eval(tokens)
    print(assert_type(llm.sample(), int), "comes next")
    answer = assert_type(llm.create_completion(tokens, max_tokens=4, quality="exact"), CreateCompletionResponse)
    assert_type(
        llm.create_completion(tokens, max_tokens=4, stream=True), Generator[CreateCompletionStreamResponse, None, None]
    )
    print(answer["choices"][0]["text"], answer["usage"]["completion_tokens"])
    chat = llm.create_chat_completion([{"role": "user", "content": "Hello."}], max_tokens=4)
    print(assert_type(chat, CreateChatCompletionResponse)["choices"][0]["message"]["content"])
    pieces = llm.create_chat_completion([{"role": "user", "content": "Hello."}], max_tokens=4, stream=True)
    assert_type(pieces, Generator[CreateChatCompletionStreamResponse, None, None])
    threading.Timer(0.0, llm.cancel).start()
    try:
        print(len(list(pieces)), "pieces")
    except Cancelled as error:
        print(error)


def tokens(llm: Llama) -> None:
    """Below requests: evaluating, drawing, and the context as a value."""
    llm.reset()
    llm.eval(llm.tokenize(b"Once upon a time"))
    state = assert_type(llm.save_state(), LlamaState)
    for _, token in zip(range(4), llm.generate([], reset=False), strict=False):
        print(assert_type(token, int))
    llm.load_state(state)


def experts(llm: Llama) -> None:
    """Memory, quality, and which experts are in memory."""
    assert_type(llm.notes, list[str])
    groups = assert_type(llm.expert_groups, list[str])
    resident = assert_type(llm.resident_bits(), dict[str, list[float]])
    llm.set_expert_levels(groups[0], [4] * len(resident[groups[0]]))
    llm.set_expert_levels(groups[0], [])
    llm.check_quality("balanced")
    llm.set_quality("balanced")
    llm.observe_experts([0])
    llm.eval([1, 2, 3])
    assert_type(llm.take_expert_inputs(), list[tuple[list[str], int, Any]])
    assert_type(llm.take_expert_weights(), list[tuple[int, list[float]]])
    llm.observe_experts([])
    try:
        llm.set_memory("1MiB")
    except BudgetError as error:
        print(error)
    before = assert_type(llm.stats(), Stats)
    llm.set_memory("2GiB")
    since = assert_type(llm.stats().since(before), Stats)
    assert_type(since.budget_bytes, int | None)
    assert_type(since.hit_rate, float)


def sequences(path: Path) -> None:
    """Several sequences in one context."""
    with closing(Llama(path, memory=None, n_ctx=512, n_seq_max=2)) as llm, Batch(llm) as batch:
        number = assert_type(batch.add(llm.tokenize(b"Once"), quality="exact"), int)
        logits = assert_type(batch.step(), dict[int, Row])
        batch.push(number, int(logits[number].argmax()))
        print(assert_type(batch.tokens(number), list[int]), assert_type(batch.pending(number), int), batch.free)
        batch.drop_waiting(number)
        other = llm.tokenize(b"Once more")
        batch.check(other, "exact")
        assert assert_type(batch.shared(number, other, "exact"), int) == batch.rewrite(number, other, "exact")
        batch.remove(number)


def routes(path: Path, folder: Path) -> None:
    """Who answers, and the answer."""
    router = Router()
    found = assert_type(router.classify("Tell me a story."), Classification)
    assert_type(found.strong_probability, float | None)
    assert_type(found.domain_scores, Mapping[str, float])
    config = Config(local={"small": LocalModel("small", path=path, ctx=256)}, state=folder)
    decision = assert_type(router.decide("Tell me a story.", config, local_only=True), Decision)
    print(decision.route, decision.target, decision.reason)
    with Assistant(config, router=router) as assistant:
        assert_type(assistant.decide("Tell me a story."), Decision)
        with assistant.reply("Tell me a story.", private=True, max_tokens=4) as answer:
            print("".join(piece for piece in answer), assert_type(answer.cost, float), answer.notes)
        assert_type(assistant.feedback(answer, good=True), str)
        asyncio.run(waiting(assistant))


async def waiting(assistant: Assistant) -> None:
    async with assistant.areply("Tell me a story.", max_tokens=4) as answer:
        async for piece in answer:
            print(assert_type(piece, str))


def clouds(folder: Path) -> None:
    """Nobody listens at this address, which is an error of its own kind."""
    cloud = Cloud(Endpoint("none", "http://127.0.0.1:9/v1", "model", retries=0))
    try:
        print([assert_type(piece.text, str) for piece in cloud.stream([{"role": "user", "content": "Hello."}])])
    except CloudError as error:
        print(error, assert_type(error.started, bool), error.temporary)
    cloud.close()
    ledger = Ledger(folder / "ledger.json")
    ledger.add("none", 0.5)
    assert_type(ledger.spent(), float)


def errors(path: Path) -> None:
    """Whatever goes wrong has one base class."""
    kinds = (BudgetError, Cancelled, CloudError, ConfigError, DownloadError, ModelError, ReadError, VersionError)
    for kind in (*kinds, WriteError):
        assert issubclass(kind, EdgeMoEError)
    try:
        Llama(path / "missing.gguf")
    except ModelError as error:
        print(error)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default_model_path()
    print(edgemoe.__version__)
    with closing(Llama(path, memory="2GiB", n_ctx=256, n_batch=64, seed=1)) as llm:
        requests(llm)
        tokens(llm)
        experts(llm)
    sequences(path)
    with tempfile.TemporaryDirectory() as folder:
        routes(path, Path(folder))
        clouds(Path(folder))
    errors(path)


if __name__ == "__main__":
    main()
