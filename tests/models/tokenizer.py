"""A small byte-level BPE: every byte, a few English merges, and the ChatML control tokens."""

from __future__ import annotations

from gguf import TokenType

WORDS = (
    " the", " of", " and", " to", " in", " is", " that", " for", " on", " with", " as", " are", " this", " what",
    " you", " expert", " model", "ing", "er", "ion", "Hello", " world",
)  # fmt: skip
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def _vocabulary() -> tuple[list[str], list[str]]:
    symbols = _byte_symbols()
    tokens, merges = list(symbols), []
    for word in WORDS:
        pieces = [symbols[byte] for byte in word.encode()]
        for end in range(1, len(pieces)):
            left, right = "".join(pieces[:end]), pieces[end]
            if left + right not in tokens:
                tokens.append(left + right)
                merges.append(f"{left} {right}")
    return tokens, merges


_TOKENS, _MERGES = _vocabulary()
N_VOCAB = len(_TOKENS) + len(CONTROL)


def metadata() -> dict[str, object]:
    """The `tokenizer.` part of a file's metadata; the control tokens come last."""
    n_plain = len(_TOKENS)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [*_TOKENS, *CONTROL],
        "tokenizer.ggml.token_type": [int(TokenType.NORMAL)] * n_plain + [int(TokenType.CONTROL)] * len(CONTROL),
        "tokenizer.ggml.merges": _MERGES,
        "tokenizer.ggml.bos_token_id": n_plain,
        "tokenizer.ggml.eos_token_id": n_plain + 2,
        "tokenizer.ggml.padding_token_id": n_plain,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
