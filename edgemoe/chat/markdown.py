"""Markdown as a terminal shows it, block by block, while it comes."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown
from rich.syntax import Syntax
from rich.text import Text

from edgemoe.chat.printable import printable

_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable(["reference", "image"])


class _Fenced(CodeBlock):
    """Code between its fences, not indented, so that it can be copied."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        language = "" if self.lexer_name == "text" else self.lexer_name
        yield Text(f"```{language}", style="dim")
        code = str(self.text).rstrip("\n")
        yield Syntax(code, self.lexer_name, theme="ansi_dark", background_color="default", word_wrap=True)
        yield Text("```", style="dim")


class _Title(Heading):
    """At the left, and recognizable without colours."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text.assemble(("#" * int(self.tag[1:]) + " ", "dim"), (self.text.plain, "bold"))


class ChatMarkdown(Markdown):
    """As models mean it: a line break is one, HTML is text, and a link shows where it leads."""

    elements = Markdown.elements | {"fence": _Fenced, "code_block": _Fenced, "heading_open": _Title}

    def __init__(self, text: str) -> None:
        super().__init__("", hyperlinks=False)
        self.markup = text
        self.parsed = _PARSER.parse(printable(text))
        for token in self.parsed:
            for child in token.children or ():
                if child.type == "softbreak":
                    child.type = "hardbreak"


def split_blocks(text: str) -> list[str]:
    """The top-level blocks of `text`, one after the other; what comes later can change the last one alone."""
    starts = [token.map[0] for token in _PARSER.parse(text) if _begins_block(token) and token.map]
    lines = text.split("\n")
    ends = [*starts[1:], len(lines)]
    return ["\n".join(lines[start:end]) for start, end in zip(starts, ends, strict=False)]


def _begins_block(token: Token) -> bool:
    return token.level == 0 and token.nesting >= 0


class BlockStream:
    """Markdown that comes piece by piece: blocks that are finished, and the one that is open."""

    def __init__(self) -> None:
        self.open = ""

    def feed(self, text: str) -> list[str]:
        """Adds `text`; the blocks that it has finished."""
        self.open += text
        blocks = split_blocks(self.open)
        if len(blocks) < 2:
            return []
        self.open = blocks[-1]
        return blocks[:-1]

    def end(self) -> list[str]:
        """The open block, when nothing more comes."""
        last, self.open = self.open, ""
        return split_blocks(last)
