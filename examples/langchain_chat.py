"""LangChain with a model in this process, or with a server: python examples/langchain_chat.py [MODEL], or URL [NAME].

URL is that of a server that speaks OpenAI's protocol, such as http://127.0.0.1:8080/v1, and NAME one of its models.
Neither way needs a class made for LangChain.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableGenerator

from edgemoe import Llama
from edgemoe.default_model import default_model_path


def model_here(path: str) -> Runnable[PromptValue, str]:
    """A model in this process, inside its memory budget."""
    from langchain_core.messages import convert_to_openai_messages

    llm = Llama(path, memory="auto")

    def answer(prompts: Iterator[PromptValue]) -> Iterator[str]:
        for prompt in prompts:
            messages: Any = convert_to_openai_messages(prompt.to_messages())
            for chunk in llm.create_chat_completion(messages, stream=True, max_tokens=48, temperature=0.0):
                delta: Any = chunk["choices"][0]["delta"]
                yield delta.get("content") or ""

    return RunnableGenerator(answer)


def model_there(url: str, name: str) -> Runnable[Any, str]:
    """A model behind a server, which takes any key unless it was started with one."""
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    chat = ChatOpenAI(base_url=url, api_key=SecretStr("none"), model=name, temperature=0.0, max_completion_tokens=48)
    return chat | StrOutputParser()


def main() -> None:
    where = sys.argv[1] if len(sys.argv) > 1 else str(default_model_path())
    name = sys.argv[2] if len(sys.argv) > 2 else "auto"
    prompt = ChatPromptTemplate.from_messages([("user", "Tell me a story about a {animal}.")])
    chain = prompt | (model_there(where, name) if where.startswith("http") else model_here(where))
    print(chain.invoke({"animal": "fish"}))
    for piece in chain.stream({"animal": "bird"}):
        print(piece, end="|", flush=True)
    print()


if __name__ == "__main__":
    main()
