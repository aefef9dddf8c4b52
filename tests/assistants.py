"""Assistants for tests: the default model here, and a server on loopback in the cloud's place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cloud_servers import DONE, END, Server, Visit, event
from edgemoe import Assistant, Llama
from edgemoe.cloud import Endpoint
from edgemoe.config import CloudModel, Config, LocalModel
from edgemoe.conversation import prompt_tokens, use_own_template
from edgemoe.default_model import default_model_path
from routers import EASY_STORY, HARD_STORY

EASY, HARD = EASY_STORY, HARD_STORY
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24}
PRICES = {"input_price": 1000.0, "output_price": 2000.0}
QUICK = {"retries": 0, "connect_timeout": 5.0, "first_token_timeout": 1.0, "stall_timeout": 1.0}


def endpoint(server: Server | str, name: str = "big", **options: Any) -> CloudModel:
    """A cloud model at a server, or at a URL."""
    url = server if isinstance(server, str) else f"http://127.0.0.1:{server.port}/v1"
    target = {k: options.pop(k) for k in ("system", "sampling", "domains", "ability") if k in options}
    return CloudModel(name, Endpoint(name, url, "m", **(QUICK | PRICES | options)), **target)


@contextmanager
def assistant(
    router: Path, state: Path, *models: CloudModel | LocalModel, ask: Any = None, **options: Any
) -> Iterator[Assistant]:
    """One with the default model, called "small", unless `models` has a local one."""
    local = {m.name: m for m in models if isinstance(m, LocalModel)} or {"small": LocalModel("small", ctx=512)}
    cloud = {m.name: m for m in models if isinstance(m, CloudModel)}
    config = Config(router=router, state=state, local=local, cloud=cloud, **options)
    with Assistant(config, ask=ask) as found:
        yield found


def alone(prompt: str, begun: str = "", **sampling: Any) -> str:
    """What the default model says by itself, behind what an answer has begun with."""
    with closing(Llama(default_model_path(), memory=None, n_ctx=512)) as llm:
        use_own_template(llm)
        tokens = prompt_tokens(llm, [{"role": "user", "content": prompt}])
        tokens += llm.tokenize(begun.encode(), add_bos=False) if begun else []
        text: str = llm.create_completion(tokens, **(GREEDY | sampling))["choices"][0]["text"]
        return text


def sent(visit: Visit) -> dict[str, Any]:
    """The body of a request."""
    found: dict[str, Any] = json.loads(visit.body)
    return found


def answers(*texts: str, prompt_tokens: int = 100, completion_tokens: int = 50) -> Any:
    """A server's behaviour: a whole answer with usage."""
    usage = event(choices=[], usage={"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens})
    return lambda visit: visit.answer("".join(map(event, texts)) + END + usage + DONE)
