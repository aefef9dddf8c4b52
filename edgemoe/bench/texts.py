"""The text that prompts of a benchmark are cut from."""

from __future__ import annotations

from typing import Any

ENGLISH = (
    "The harbour lay quiet under a thin morning fog when the first ferry of the day set out for the islands. "
    "On its deck stood a carpenter with a box of tools, two students who argued about the best way to cook "
    "rice, and an old woman who had made this journey every week for forty years. She knew the names of all "
    "the rocks along the coast, and she told them to anyone who cared to listen: the Anvil, the Sleeping Dog, "
    "the Three Sisters. Behind them the town woke slowly. Bakers opened their shutters, a tram rang its bell "
    "at the corner of the market square, and somewhere a radio played a song that had been popular long ago. "
    "By noon the fog was gone, the water had turned from grey to a deep green, and the price of fish at the "
    "pier had fallen by a third because the night's catch had been so large. "
)


def prompt_of(llm: Any, text: str, count: int) -> list[int]:
    """`count` tokens: `text`, repeated as often as needed."""
    once = llm.tokenize(text.encode(), add_bos=False, special=True)
    tokens: list[int] = llm.tokenize(text.encode(), add_bos=True, special=True)
    while once and len(tokens) < count:
        tokens += once
    return tokens[:count]


def prompts_of(llm: Any, text: str, count: int, sequences: int) -> list[list[int]]:
    """A prompt of `count` tokens for each of `sequences`: consecutive pieces of `text`, repeated as often as needed."""
    begin: list[int] = llm.tokenize(b"", add_bos=True, special=True)[:count]
    once: list[int] = llm.tokenize(text.encode(), add_bos=False, special=True)
    piece = count - len(begin)
    tokens = once * (piece * sequences // max(1, len(once)) + 1)
    return [begin + tokens[i * piece : (i + 1) * piece] for i in range(sequences)]
