"""One model in memory: the plan for its budget, its expert engine, and the cache that the budget leaves room for."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as bindings

from edgemoe import _native, machine
from edgemoe.budget import SMALL_BATCH, Plan, Planners, Request, make_plan, margin, resolve_cache, resolve_memory
from edgemoe.errors import BudgetError, Cancelled, EdgeMoEError, ModelError, ReadError
from edgemoe.experts import library
from edgemoe.experts.loading import collected_log, load_model
from edgemoe.experts.planning import ContextShape
from edgemoe.experts.quality import LEVELS, parse_quality
from edgemoe.experts.stats import Clock, Stats
from edgemoe.experts.trace import TraceWriter
from edgemoe.loans import Loans, Room
from edgemoe.packs.adapter import check_adapter
from edgemoe.packs.summary import open_model, summarize
from edgemoe.sizes import format_size

logger = logging.getLogger("edgemoe")

DEFAULT_IO_THREADS = 8
READ_PIECE = 256 * 1024
"""Bytes of one read: several threads share a matrix, and an NVMe drive reaches its speed."""
HALF_LIFE = 256.0
"""Tokens after which a use of an expert counts half for keeping it."""
_DENSE_CTX = 4096

_open: weakref.WeakSet[Residence] = weakref.WeakSet()


class Residence:
    """Everything of a `Llama` that llama_cpp.Llama does not know. `arguments` are what the parent must be given."""

    def __init__(
        self,
        path: str,
        *,
        n_ctx: int | None,
        n_seq_max: int,
        memory: int | str | None,
        cache: int | float | str | None,
        quality: str | float,
        io_threads: int | None,
        read_ahead: bool,
        trace: str | os.PathLike[str] | None,
        arguments: dict[str, Any],
    ) -> None:
        if io_threads is not None and not 1 <= io_threads <= 64:
            raise EdgeMoEError(f"io_threads={io_threads} is out of range: use 1 to 64")
        self._n_seq_max = _checked_sequences(n_seq_max, arguments)
        self.notes: list[str] = []
        self.plan: Plan | None = None
        self._file = open_model(path)
        self._summary = summarize(path, self._file)
        self._quality = parse_quality(quality, self._file.levels)
        self._cache_wanted = cache
        lora = arguments.get("lora_path")
        self._adapters = check_adapter(lora, self._file) if lora else 0
        self._minimum_cache = 0
        self._trace: TraceWriter | None = None
        self.budget = resolve_memory(memory)
        if self._summary.experts:
            self.plan = self._make_plan(n_ctx, arguments)
            shape = self.plan.shape
            self.arguments = {"n_ctx": shape.n_ctx, "n_batch": shape.n_batch, "n_ubatch": shape.n_ubatch}
            self._check_cache(self.plan)
            self._note_changes(shape, n_ctx, arguments)
            if trace is not None:
                self._trace = TraceWriter(Path(trace))
        else:
            name = self._summary.path.name
            self.notes.append(
                f"{name} has no experts: llama.cpp runs it as it is, and memory=, cache= and trace= do not apply"
            )
            self.arguments = {"n_ctx": n_ctx or min(self._summary.n_ctx_train or 512, _DENSE_CTX)}
        self._engine = _native.Engine(
            self._file,
            io_threads=io_threads or DEFAULT_IO_THREADS,
            embedding_on_disk=self.plan is not None and self.plan.embedding_on_disk,
            top_level=self._quality.top_level,
            target=self._quality.target,
            read_ahead=read_ahead,
            piece=READ_PIECE,
            policy="decayed",
            half_life=HALF_LIFE,
        )
        self.loans = Loans(self._engine, None)

    def _check_cache(self, plan: Plan) -> None:
        if self._cache_wanted is None:
            return
        wanted = resolve_cache(self._cache_wanted, plan.full_cache)
        if wanted < plan.minimum_cache:
            raise BudgetError(
                f"cache={self._cache_wanted!r} is {format_size(wanted)}, but one layer's working set needs "
                f"{format_size(plan.minimum_cache)}"
            )

    def _note_changes(self, shape: ContextShape, n_ctx: int | None, arguments: dict[str, Any]) -> None:
        if not n_ctx and shape.n_ctx < self._summary.n_ctx_train:
            self.notes.append(f"n_ctx is {shape.n_ctx} of {self._summary.n_ctx_train} trained, to fit the budget")
        asked = min(arguments.get("n_ubatch", 512), shape.n_batch)
        if shape.n_ubatch < asked:
            self.notes.append(f"n_ubatch is {shape.n_ubatch} instead of {asked}, to fit the budget")

    def _make_plan(self, n_ctx: int | None, arguments: dict[str, Any]) -> Plan:
        n_batch = arguments.get("n_batch", 512)
        embeddings = bool(arguments.get("embedding", False))
        shape = ContextShape(
            n_ctx=0,
            n_batch=n_batch,
            n_ubatch=0,
            type_k=arguments.get("type_k"),
            type_v=arguments.get("type_v"),
            flash_attn=bool(arguments.get("flash_attn", False)),
            n_seq_max=min(n_batch, bindings.llama_max_parallel_sequences()) if embeddings else self._n_seq_max,
            embeddings=embeddings,
            swa_full=arguments.get("swa_full"),
            offload_kqv=arguments.get("offload_kqv", True),
        )
        request = Request(
            n_ctx=n_ctx or None,
            n_batch=n_batch,
            n_ubatch=arguments.get("n_ubatch", 512),
            shape=shape,
            budget=self.budget,
            adapters=self._adapters,
        )
        baseline = machine.rss() + sum(r.pending for r in list(_open))
        gpu_layers, overrides = arguments.get("n_gpu_layers", 0), arguments.get("kv_overrides")
        with Planners(self._file, gpu_layers, overrides, self._quality.top_level) as planners:
            return make_plan(self._summary, planners, request, baseline=baseline)

    # Loading

    @contextmanager
    def loading(self) -> Iterator[Callable[[Exception], EdgeMoEError]]:
        """Model loads of this thread show llama.cpp the stream; yields what turns its refusal into our error."""
        hook = self._load if self._summary.experts else None
        with collected_log() as log, library.model_load(hook, self._n_seq_max):

            def failure(error: Exception) -> EdgeMoEError:
                self.raise_kept_error()
                if reason := self._engine.load_error():
                    return ReadError(reason)
                reason = log.errors() or str(error)
                return ModelError(f"llama.cpp cannot run {self._summary.path}: {reason}")

            yield failure

    def _load(self, params: Any) -> Any:
        return load_model(self._engine, params)

    def raise_kept_error(self) -> None:
        """Raises what an operation of the backend kept for this thread, if there is anything."""
        self._engine.raise_error()

    def attach(self, context: int, threads: int) -> None:
        """Shares the threads with the context and sizes the cache from what is left of the budget now."""
        self._engine.attach(context, threads)
        machine.return_free_memory()
        if self.plan is not None:
            self._minimum_cache = self._engine.minimum_cache(self._summary.experts_used)
            self._size_cache(self.plan)
            _open.add(self)
            if self._trace is not None:
                self._trace.begin(self._summary.name, self._engine.groups())
                self._engine.record_trace(True)

    def _size_cache(self, plan: Plan) -> None:
        """A cache whose size was given lends nothing, nor does one without a budget."""
        full = self._engine.full_cache()
        if self._cache_wanted is not None:
            self._engine.set_cache(min(resolve_cache(self._cache_wanted, full), full))
        elif self.budget is None:
            self._engine.set_cache(full)
        else:
            room = self._room(plan, self.budget)
            cache = self._engine.set_cache(min(room, full))
            self.loans = Loans(self._engine, Room(plan, room, self._minimum_cache, cache))

    def _room(self, plan: Plan, budget: int) -> int:
        """What the budget leaves for experts while single tokens are computed."""
        others = sum(r.pending for r in list(_open))
        left = budget - machine.rss() - others - plan.parts["working memory"] - plan.batch_bytes(SMALL_BATCH)
        prompt = plan.prompt_bytes(plan.shape.n_ubatch)
        if left - prompt < self._minimum_cache:
            needed = budget + self._minimum_cache - left + prompt
            raise BudgetError(
                f"a budget of {format_size(budget)} is too small for {self._summary.path.name}: "
                f"the smallest is {format_size(needed)}\n{plan.table()}"
            )
        return max(left - margin(budget), self._minimum_cache + prompt)

    # Computing

    def decode(self, context: Any, batch: Any) -> int:
        """llama_decode; called on the model's own thread."""
        with contextlib.suppress(EdgeMoEError):
            self._engine.raise_error()  # of an earlier operation that nobody asked about
        self.loans.make_room_for(batch.n_tokens)
        self._engine.forget_compute_buffer()
        code = bindings.llama_decode(context, batch)
        if code != 0:
            self._engine.forget_compute_buffer()
        if self._trace is not None:
            self._trace.write(self._engine.take_trace())
        return code

    def cancel(self) -> None:
        self._engine.cancel()

    def clear_cancel(self) -> None:
        self._engine.clear_cancel()

    def check_cancelled(self) -> None:
        if self._engine.cancelled:
            self._engine.clear_cancel()
            raise Cancelled("the request was cancelled")

    def raise_failure(self, code: int) -> None:
        """Raises what lies behind a llama_decode that returned `code`."""
        self._engine.raise_error()
        self.check_cancelled()
        if code == 1:
            raise EdgeMoEError("the context is full: use a larger n_ctx, or shorten the prompt")
        raise EdgeMoEError(f"llama.cpp could not compute this batch (llama_decode returned {code})")

    @property
    def pending(self) -> int:
        """Bytes promised to this model that are not yet in the process's resident set."""
        if self.plan is None or "_engine" not in self.__dict__:
            return 0
        stats = self._engine.stats()
        return stats["cache_bytes"] - stats["resident_bytes"] + self.plan.parts["working memory"]

    @property
    def group_names(self) -> list[str]:
        return [name for name, _, _ in self._engine.groups()]

    def set_levels(self, group: str, levels: Sequence[int]) -> None:
        names = self.group_names
        if group not in names:
            raise EdgeMoEError(f"{group!r} is no group of experts of this model; there are {', '.join(names)}")
        known = list(self._file.levels)[: self._quality.top_level + 1]
        if unknown := sorted(set(levels) - set(known)):
            levels_known = ", ".join(map(str, known)) or "none (it is no pack)"
            raise EdgeMoEError(f"level {unknown[0]} is not in use; this model has {levels_known}")
        self._engine.set_levels(names.index(group), [known.index(level) + 1 for level in levels])

    def set_quality(self, quality: str | float) -> None:
        asked = parse_quality(quality, self._file.levels)
        top = self._quality.top_level
        if asked.top_level > top and not asked.target:
            raise EdgeMoEError(f"quality={quality!r} needs planes above level {LEVELS[top]}: load the model with them")
        self._engine.set_target(asked.target)
        if asked.top_level < top:
            for group, (_, experts, _) in enumerate(self._engine.groups()):
                self._engine.set_levels(group, [asked.top_level + 1] * experts)

    def resident_bits(self) -> dict[str, list[float]]:
        """By group, bits per weight of each expert that are in memory; groups that llama.cpp left out have none."""
        bits = dict(zip(self.group_names, self._engine.resident_bits(), strict=True))
        return {group: experts for group, experts in bits.items() if experts}

    def observe(self, groups: Sequence[int]) -> None:
        self._engine.observe(list(groups))

    def take_inputs(self) -> list[tuple[list[str], int, Any]]:
        return self._engine.take_inputs()

    def stats(self, clock: Clock) -> Stats:
        native = self._engine.stats()
        return Stats(
            prompt_tokens=clock.prompt_tokens,
            decode_tokens=clock.decode_tokens,
            prompt_seconds=clock.prompt_seconds,
            decode_seconds=clock.decode_seconds,
            time_to_first_token=clock.first_token,
            hits=native["hits"],
            misses=native["misses"],
            bytes_read=native["bytes_read"],
            used_bits=native["used_bits"],
            used_weights=native["used_weights"],
            io_wait=native["io_wait"],
            compute_time=max(0.0, native["expert_time"] - native["io_wait"]),
            cache_bytes=native["cache_bytes"],
            resident_bytes=native["resident_bytes"],
            rss_bytes=machine.rss(),
            peak_bytes=machine.peak_rss(),
            budget_bytes=self.budget,
        )

    def detach(self, context: int) -> None:
        self._engine.detach(context)

    def close(self) -> None:
        _open.discard(self)
        if self._trace is not None:
            self._trace.close()
            self._trace = None
        if loans := self.__dict__.get("loans"):
            loans.end()
        self.__dict__.pop("_engine", None)
        machine.return_free_memory()


def _checked_sequences(n_seq_max: int, arguments: dict[str, Any]) -> int:
    most = min(bindings.llama_max_parallel_sequences(), arguments.get("n_batch", 512))
    if not 1 <= n_seq_max <= most:
        raise EdgeMoEError(f"n_seq_max={n_seq_max} is out of range: use 1 to {most}, and at most n_batch")
    if n_seq_max > 1 and arguments.get("embedding"):
        raise EdgeMoEError(f"n_seq_max={n_seq_max} and embedding=True exclude each other: use one model for each")
    return n_seq_max
