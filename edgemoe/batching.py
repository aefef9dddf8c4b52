"""Several sequences that one context computes together, so that experts which they share are read once."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llama_cpp.llama_cpp as bindings
import numpy as np
import numpy.typing as npt
from llama_cpp._internals import LlamaBatch

from edgemoe.errors import EdgeMoEError

if TYPE_CHECKING:
    from edgemoe.llama import Llama

Row = npt.NDArray[np.single]

_LOAN = "logits of sequences"


@dataclass
class _Sequence:
    """`slot` is llama.cpp's number of the sequence; the first `done` of `tokens` are in its memory."""

    slot: int
    tokens: list[int]
    quality: str | float | None = None
    done: int = 0

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.done


class Batch:
    """Sequences of tokens that advance together in the context of `llm`, which was opened with `n_seq_max=`.

    A sequence has tokens that are evaluated and tokens that wait. Each `step` evaluates waiting tokens of all sequences
    in one batch: new sequences may join and others leave between any two steps. From its creation to `close` a Batch
    is the model's request: those of other threads wait for it, and `llm.cancel()` ends the running step.

    Calls must come one at a time, from whichever threads.
    """

    def __init__(self, llm: Llama) -> None:
        """Raises EdgeMoEError when `llm` cannot evaluate a token of each of its sequences at once."""
        self._most = int(bindings.llama_n_seq_max(llm.ctx))
        if self._most > llm.n_batch:
            raise EdgeMoEError(f"n_batch={llm.n_batch} is less than n_seq_max={self._most}: use a larger n_batch")
        self._llm = llm
        self._sequences: dict[int, _Sequence] = {}
        self._names = itertools.count()
        with llm._turns.using():
            self._turn = llm._begin()
            self._ctx_tokens = int(bindings.llama_n_ctx_seq(llm.ctx))
            self._memory: Any = bindings.llama_get_memory(llm.ctx)
            self._rows = _Rows(llm.n_batch)
            llm.reset()
            bindings.llama_memory_clear(self._memory, True)

    # Sequences

    @property
    def free(self) -> int:
        """How many sequences may still be added."""
        return self._most - len(self._sequences)

    def add(self, tokens: Sequence[int], quality: str | float | None = None) -> int:
        """A new sequence that begins with `tokens`, all of which wait. Returns its number, for the other methods.

        A `quality` of its own holds while every sequence has one token in a batch; a batch with longer pieces of text
        has the strictest quality of its sequences.

        Raises:
            EdgeMoEError: another sequence or so many tokens do not fit, a token is none of the model's, or the quality
                is unknown or a "fixed:LEVEL".
        """
        self.check(tokens, quality)
        if not self.free:
            raise EdgeMoEError(f"the context holds {self._most} sequences: remove one, or open with a larger n_seq_max")
        taken = {sequence.slot for sequence in self._sequences.values()}
        slot = next(slot for slot in itertools.count() if slot not in taken)
        name = next(self._names)
        self._sequences[name] = _Sequence(slot, list(tokens), quality)
        return name

    def push(self, sequence: int, token: int) -> None:
        """Lets `token` wait at the end of `sequence`. Raises EdgeMoEError as `add` does."""
        found = self._find(sequence)
        self._check([token], len(found.tokens) + 1)
        found.tokens.append(token)

    def rewrite(self, sequence: int, tokens: Sequence[int], quality: str | float | None = None) -> int:
        """Lets `sequence` hold `tokens` in place of what it holds. Returns how many of them need not be evaluated
        again, because it began with them: at least the last one waits.

        What was evaluated with another `quality` is evaluated again, and so is all of it where the model's memory
        cannot be cut to an earlier token. Raises EdgeMoEError as `add` does, and nothing has changed then.
        """
        found = self._find(sequence)
        self.check(tokens, quality)
        kept = self.shared(sequence, tokens, quality)
        with self._resumed():
            found.tokens, found.quality = list(tokens), quality
            self._cut(found, kept)
        return found.done

    def shared(self, sequence: int, tokens: Sequence[int], quality: str | float | None = None) -> int:
        """How many of `tokens` `sequence` begins with, evaluated with `quality`; the last one never counts."""
        found = self._find(sequence)
        if quality != found.quality:
            return 0
        limit = min(found.done, len(tokens) - 1)
        kept = next((i for i in range(limit) if found.tokens[i] != tokens[i]), limit)
        return 0 if self._whole and kept < found.done else kept

    def pending(self, sequence: int) -> int:
        """How many tokens of `sequence` wait."""
        return self._find(sequence).pending

    def drop_waiting(self, sequence: int) -> None:
        """Forgets the tokens of `sequence` that wait; what is evaluated stays for `rewrite`."""
        found = self._find(sequence)
        del found.tokens[found.done :]

    def remove(self, sequence: int) -> None:
        """Forgets a sequence; its place is free for another."""
        with self._resumed():
            bindings.llama_memory_seq_rm(self._memory, self._find(sequence).slot, -1, -1)
            del self._sequences[sequence]

    def tokens(self, sequence: int) -> list[int]:
        """The tokens of a sequence, evaluated or waiting."""
        return list(self._find(sequence).tokens)

    @property
    def ctx_tokens(self) -> int:
        """How many tokens a sequence may have."""
        return self._ctx_tokens

    def check(self, tokens: Sequence[int], quality: str | float | None = None) -> None:
        """Raises EdgeMoEError for tokens or a quality that no sequence can have, from whichever thread."""
        if quality is not None:
            self._llm._residence.quality.check_sequence(quality)
        if not tokens:
            raise EdgeMoEError("a sequence needs at least one token")
        self._check(tokens, len(tokens))

    def _find(self, sequence: int) -> _Sequence:
        if sequence not in self._sequences:
            raise EdgeMoEError(f"there is no sequence {sequence}: it was removed, or never added")
        return self._sequences[sequence]

    def _check(self, tokens: Sequence[int], length: int) -> None:
        if length > self._ctx_tokens:
            raise EdgeMoEError(
                f"a sequence of {length} tokens does not fit: the context has {self._ctx_tokens} for each of "
                f"{self._most} sequences; use a larger n_ctx"
            )
        if wrong := [token for token in tokens if not 0 <= token < self._llm.n_vocab()]:
            raise EdgeMoEError(f"{wrong[0]} is no token of this model: it has {self._llm.n_vocab()}")

    # Computing

    def step(self, most: int | None = None) -> dict[int, Row]:
        """Evaluates one batch of at most n_batch waiting tokens (`most`, if that is less): of every sequence at least
        one, and the fewest waiting come first, so that a long prompt does not hold up the others.

        Returns the logits (float32 [n_vocab]) that follow each sequence of which nothing waits any more.

        Raises:
            Cancelled, ReadError, EdgeMoEError: as evaluating does. Nothing is lost: the next step tries again.
        """
        with self._resumed():
            self._close_gaps()
            chunks = self._chunks(most)
            if not chunks:
                return {}
            qualities = [self._sequences[name].quality for name, _ in chunks]
            self._llm._residence.quality.use_for(qualities, single=all(count == 1 for _, count in chunks))
            rows = {name: self._rows.append(self._sequences[name], count) for name, count in chunks}
            finished = {name: row for name, row in rows.items() if row is not None}
            vocabulary = self._llm.n_vocab()
            self._llm._residence.loans.lend(_LOAN, len(finished) * vocabulary * 4)
            try:
                self._llm._decode(self._rows)
            except BaseException:
                self._cut_back()
                raise
            for name, count in chunks:
                self._sequences[name].done += count
            return {name: self._logits(row, vocabulary) for name, row in finished.items()}

    def _chunks(self, most: int | None) -> list[tuple[int, int]]:
        """(sequence, tokens of it) of the next batch, by slot: llama.cpp computes runs of consecutive slots at once."""
        self._rows.clear()
        waiting = [(name, sequence) for name, sequence in self._sequences.items() if sequence.pending]
        waiting.sort(key=lambda item: item[1].pending)
        room = min(self._rows.capacity, max(most or self._rows.capacity, len(waiting)))
        chunks = []
        for place, (name, sequence) in enumerate(waiting):
            count = min(sequence.pending, room - (len(waiting) - place - 1))  # one is left for each of the others
            chunks.append((name, count))
            room -= count
        return sorted(chunks, key=lambda chunk: self._sequences[chunk[0]].slot)

    def _logits(self, row: int, vocabulary: int) -> Row:
        return np.ctypeslib.as_array(self._llm._ctx.get_logits_ith(row), shape=(vocabulary,)).copy()

    def _close_gaps(self) -> None:
        """Moves the last sequences into slots that removed ones have left: a gap would cut every batch in two."""
        by_slot = sorted(self._sequences.values(), key=lambda sequence: sequence.slot)
        taken = {sequence.slot for sequence in by_slot}
        for gap in range(len(by_slot)):
            if gap in taken:
                continue
            last = by_slot.pop()
            bindings.llama_memory_seq_cp(self._memory, last.slot, gap, -1, -1)
            bindings.llama_memory_seq_rm(self._memory, last.slot, -1, -1)
            last.slot = gap

    def _cut_back(self) -> None:
        """After a failure: what was evaluated of the failed batch waits again; everything, where memory cannot be
        cut to an earlier token."""
        for sequence in self._sequences.values():
            self._cut(sequence, 0 if self._whole else sequence.done)

    def _cut(self, sequence: _Sequence, kept: int) -> None:
        """Leaves the first `kept` tokens of `sequence` in memory."""
        sequence.done = kept
        bindings.llama_memory_seq_rm(self._memory, sequence.slot, sequence.done or -1, -1)

    @property
    def _whole(self) -> bool:
        """Whether memory cannot be cut to an earlier token: recurrent state, windows of attention."""
        llm = self._llm
        return bool(llm._is_recurrent or llm._is_hybrid or bindings.llama_model_n_swa(llm.model) > 0)

    @contextlib.contextmanager
    def _resumed(self) -> Iterator[None]:
        with self._llm._turns.using():
            self._llm._turns.resume(self._turn)
            if self._llm.n_tokens:
                raise EdgeMoEError(
                    "the model was used for something else while its sequences were open: close them first"
                )
            yield

    def close(self) -> None:
        """Forgets all sequences; the model serves other requests again."""
        with contextlib.suppress(EdgeMoEError), self._llm._turns.using():  # a closed model has forgotten them
            if self._llm._turns.is_current(self._turn):
                self._llm.reset()
                bindings.llama_memory_clear(self._memory, True)
                self._llm._residence.loans.lend(_LOAN, 0)
        self._llm._end(self._turn)
        self._sequences.clear()
        self._rows.close()

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Rows:
    """A llama_batch: rows of tokens, each of one sequence. `sequences` of them have rows."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.sequences = 0
        self._owner = LlamaBatch(n_tokens=capacity, embd=0, n_seq_max=1, verbose=False)
        self.batch = self._owner.batch

    def clear(self) -> None:
        self.batch.n_tokens = self.sequences = 0

    def append(self, sequence: _Sequence, count: int) -> int | None:
        """Adds the next `count` waiting tokens; returns the row that logits are asked for, if it is the last one."""
        batch = self.batch
        first = batch.n_tokens
        for row, position in enumerate(range(sequence.done, sequence.done + count), first):
            batch.token[row] = sequence.tokens[position]
            batch.pos[row] = position
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = sequence.slot
            batch.logits[row] = position == len(sequence.tokens) - 1
        batch.n_tokens += count
        self.sequences += 1
        return first + count - 1 if count == sequence.pending else None

    def close(self) -> None:
        self._owner.close()
