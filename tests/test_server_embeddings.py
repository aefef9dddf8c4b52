"""Embeddings from a server are those of the model alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import ollama
import openai
import pytest

from edgemoe import Llama
from edgemoe.config import LocalModel
from serving import Running, said, serving

TEXTS = ["a dog", "the red bird sings", "it was raining all day long"]


@pytest.fixture(scope="module")
def path(model_factory) -> str:
    return str(model_factory("qwen3moe", pooling=1)[0])


@pytest.fixture(scope="module")
def server(path: str) -> Iterator[Running]:
    with serving(models={"vectors": LocalModel("vectors", path, threads=1)}, memory="4GiB") as running:
        yield running


def test_embeddings_are_those_of_the_model_alone(server: Running, path: str) -> None:
    with closing(Llama(path, memory=None, n_ctx=512, embedding=True, n_threads=1, n_threads_batch=1)) as llm:
        want = llm.embed(TEXTS, normalize=True)
    for form in ("float", "base64"):
        got = server.openai.embeddings.create(model="vectors", input=TEXTS, encoding_format=form)
        found = np.array([row.embedding for row in got.data]) if form == "float" else None
        if found is None:
            found = np.array([np.frombuffer(__import__("base64").b64decode(r.embedding), "<f4") for r in got.data])
        assert np.allclose(found, want, atol=1e-5)
        assert got.usage.prompt_tokens > len(TEXTS)
    [one] = server.openai.embeddings.create(model="vectors", input=TEXTS[0]).data
    assert np.allclose(one.embedding, want[0], atol=1e-4)


def test_ollamas_client_gets_the_same(server: Running) -> None:
    client = ollama.Client(server.url)
    got = client.embed("vectors", TEXTS)
    want = server.openai.embeddings.create(model="vectors", input=TEXTS)
    assert np.allclose(got.embeddings, [row.embedding for row in want.data], atol=1e-5)
    assert got.prompt_eval_count == want.usage.prompt_tokens
    assert client.show("vectors").capabilities == ["embedding"]
    assert [model.model for model in client.list().models] == ["vectors:latest"]
    assert [model.model for model in client.ps().models] == ["vectors:latest"]


def test_what_cannot_be_embedded(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match=r"a text has \d+ tokens, and the model takes \d+"):
        server.openai.embeddings.create(model="vectors", input="dog " * 5000)
    with pytest.raises(openai.BadRequestError, match="makes embeddings, not text"):
        server.openai.chat.completions.create(model="vectors", messages=said("x"))
    assert server.service.in_progress == 0
