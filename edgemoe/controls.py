"""What `edgemoe.Llama` has beside everything of llama_cpp.Llama: quality, memory, its experts, statistics."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import llama_cpp

from edgemoe.experts.stats import Clock, Stats

if TYPE_CHECKING:
    from llama_cpp.llama_types import (
        ChatCompletionRequestMessage,
        CreateChatCompletionResponse,
        CreateChatCompletionStreamResponse,
        CreateCompletionResponse,
        CreateCompletionStreamResponse,
    )
    from typing_extensions import Self, Unpack

    from edgemoe.arguments import ChatOptions, CompletionOptions, ModelArguments
    from edgemoe.experts.turns import Turns
    from edgemoe.experts.worker import Worker
    from edgemoe.residence import Residence

_asked = threading.local()


class Controls(llama_cpp.Llama):
    """A base of `Llama`, which has these attributes.

    Completions take an argument more than the parent's: `quality`, which holds for that request alone.
    """

    _residence: Residence
    _clock: Clock
    _turns: Turns
    _worker: Worker
    _options: dict[str, Any]
    _observing_last: bool

    # The parent takes everything by position and by keyword, and its `stream` is any bool, so that one result type
    # stands for an answer and for a stream. These are narrower on purpose: callers get the type that they asked for.

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, repo_id: str, filename: str | None, *args: Any, **options: Unpack[ModelArguments]
    ) -> Self:
        """A model of the Hugging Face Hub, downloaded into its cache; see llama_cpp.Llama.from_pretrained.

        Raises:
            ImportError: the package huggingface-hub is not installed.
            ValueError: the repository has no such file, or several.
        """
        loaded: Any = super().from_pretrained(repo_id, filename, *args, **options)
        return cast("Self", loaded)

    def reset(self) -> None:
        """Forgets the tokens so far; the next request begins with an empty context."""
        super().reset()

    # Whose turn it is

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Holds the turn: one of its own, or that of the request on this thread."""
        with self._turns.using():
            turn = None if self._turns.held_here else self._begin()
            try:
                yield
            finally:
                if turn is not None:
                    self._end(turn)

    def _begin(self, quality: str | float | None = None) -> int:
        with self._turns.using():
            turn = self._turns.begin()
            self._residence.clear_cancel()
            self._residence.quality.use(quality)
            return turn

    def _end(self, turn: int) -> None:
        self._turns.end(turn)
        self._residence.tell()

    def sample(self, *args: Any, **kwargs: Any) -> int:
        """Draws a token; see llama_cpp.Llama.sample."""
        with self._turns.using():
            return int(super().sample(*args, **kwargs))

    def tokenize(self, *args: Any, **kwargs: Any) -> list[int]:
        """Tokens of a text; see llama_cpp.Llama.tokenize."""
        with self._turns.using():
            return super().tokenize(*args, **kwargs)

    def detokenize(self, *args: Any, **kwargs: Any) -> bytes:
        """The text of tokens; see llama_cpp.Llama.detokenize."""
        with self._turns.using():
            return super().detokenize(*args, **kwargs)

    # A request's own quality

    @overload  # type: ignore[override]
    def create_completion(
        self,
        prompt: str | list[int],
        *,
        stream: Literal[False] = False,
        quality: str | float | None = None,
        **options: Unpack[CompletionOptions],
    ) -> CreateCompletionResponse: ...
    @overload
    def create_completion(
        self,
        prompt: str | list[int],
        *,
        stream: Literal[True],
        quality: str | float | None = None,
        **options: Unpack[CompletionOptions],
    ) -> Generator[CreateCompletionStreamResponse, None, None]: ...
    @functools.wraps(llama_cpp.Llama.create_completion)
    def create_completion(self, *args: Any, quality: str | float | None = None, **kwargs: Any) -> Any:
        with self._asking(quality):
            return super().create_completion(*args, **kwargs)

    @overload  # type: ignore[override]
    def create_chat_completion(
        self,
        messages: list[ChatCompletionRequestMessage],
        *,
        stream: Literal[False] = False,
        quality: str | float | None = None,
        **options: Unpack[ChatOptions],
    ) -> CreateChatCompletionResponse: ...
    @overload
    def create_chat_completion(
        self,
        messages: list[ChatCompletionRequestMessage],
        *,
        stream: Literal[True],
        quality: str | float | None = None,
        **options: Unpack[ChatOptions],
    ) -> Generator[CreateChatCompletionStreamResponse, None, None]: ...
    @functools.wraps(llama_cpp.Llama.create_chat_completion)
    def create_chat_completion(self, *args: Any, quality: str | float | None = None, **kwargs: Any) -> Any:
        with self._asking(quality):
            return super().create_chat_completion(*args, **kwargs)

    @overload  # type: ignore[override]
    def __call__(
        self,
        prompt: str,
        *,
        stream: Literal[False] = False,
        quality: str | float | None = None,
        **options: Unpack[CompletionOptions],
    ) -> CreateCompletionResponse: ...
    @overload
    def __call__(
        self,
        prompt: str,
        *,
        stream: Literal[True],
        quality: str | float | None = None,
        **options: Unpack[CompletionOptions],
    ) -> Generator[CreateCompletionStreamResponse, None, None]: ...
    @functools.wraps(llama_cpp.Llama.__call__)
    def __call__(self, *args: Any, quality: str | float | None = None, **kwargs: Any) -> Any:
        with self._asking(quality):
            return super().__call__(*args, **kwargs)

    @contextlib.contextmanager
    def _asking(self, quality: str | float | None) -> Iterator[None]:
        """Requests that this thread makes inside have `quality`; None leaves what an outer call asked for."""
        if quality is None:
            yield
            return
        self._residence.quality.check(quality)
        before, _asked.quality = self._asked_quality, quality
        try:
            yield
        finally:
            _asked.quality = before

    @property
    def _asked_quality(self) -> str | float | None:
        return getattr(_asked, "quality", None)

    # The loaded model

    @property
    def quality(self) -> str | float:
        """What requests get that ask for none of their own."""
        return self._residence.quality.default

    def check_quality(self, quality: str | float) -> None:
        """Raises EdgeMoEError for a quality that requests to this model cannot have."""
        self._residence.quality.check(quality)

    def set_quality(self, quality: str | float) -> None:
        """Changes `quality` from the next batch on, up to the level that the model was loaded with ("fixed:LEVEL").

        Raises:
            EdgeMoEError: unknown, or above what the model was loaded with.
        """
        with self._turn():
            self._residence.quality.set_default(quality)

    def set_expert_levels(self, group: str, levels: Sequence[int]) -> None:
        """Uses each expert of a group (see `expert_groups`) of a pack at a level of its own, from the next batch on.

        Args:
            levels: the level of each expert, at most that of `quality`; none gives all of them that one again.

        Raises:
            EdgeMoEError: the model has no such group or level, or another number of experts.
        """
        with self._turn():
            self._residence.set_levels(group, levels)

    def observe_experts(self, groups: Sequence[int]) -> None:
        """Keeps the inputs of the experts of these groups (see `expert_groups`) from now on; none ends it."""
        self._residence.observe(groups)
        names = self.expert_groups
        last = {name for name in names if name.rpartition(".")[0] == names[-1].rpartition(".")[0]}
        self._observing_last = any(names[group] in last for group in groups)

    def take_expert_inputs(self) -> list[tuple[list[str], int, Any]]:
        """(names of the tensors that share the input, expert, float32 [rows, columns]) seen since the last call."""
        return self._residence.take_inputs()

    def take_expert_weights(self) -> list[tuple[int, list[float]]]:
        """(expert, one a row): squared router weights of the rows seen since the last call, groups in order."""
        return self._residence.take_weights()

    @property
    def expert_groups(self) -> list[str]:
        """Names of the groups of experts that are routed together: layer and family, as in "blk.3.exps"."""
        return self._residence.group_names

    def resident_bits(self) -> dict[str, list[float]]:
        """For each group (see `expert_groups`): bits per weight of each expert that are in memory now."""
        return self._residence.resident_bits()

    def stats(self) -> Stats:
        """Counters since the model was loaded."""
        return self._residence.stats(self._clock)

    def set_memory(self, memory: int | str | None) -> None:
        """Changes the budget of the process, from any thread and also between the tokens of a running request.

        The cache of experts shrinks or grows between two batches; nothing else changes, nor do results. The context
        keeps its size. It ends what `cache=` asked for.

        Args:
            memory: what the argument of the constructor takes; "auto" follows the machine's memory from now on.

        Raises:
            BudgetError: no size, or too small: the message has the smallest that works now, and who needs what.
                Nothing has changed then.
            EdgeMoEError: the model was closed.
        """
        with self._turns.using():
            self._worker.run(lambda: self._residence.set_memory(memory), lambda: None)
        self._options |= {"memory": memory, "cache": None}
