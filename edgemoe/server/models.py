"""Models that are loaded when a request needs them, each with an engine that computes several requests."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemoe.assistant.models import Models
from edgemoe.budget import MIB
from edgemoe.config import LocalModel
from edgemoe.conversation import use_own_template
from edgemoe.default_model import default_model_path
from edgemoe.errors import BudgetError, EdgeMoEError
from edgemoe.experts.stats import Stats
from edgemoe.packs.summary import open_model, summarize
from edgemoe.server.embedding import Embedder, makes_embeddings
from edgemoe.server.hosted import Hosted, SharedLlama
from edgemoe.server.limits import DEFAULT
from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.llama import Llama

logger = logging.getLogger("edgemoe.server")

_USUAL_CTX = 8192
"""Tokens of a request's context where nobody asks for more, and the model was trained with as many."""
_SHORTEST_CTX = 512
_LONGEST_TEXT = 2048
"""Tokens of a text that is embedded, where nobody asks for more."""


class SharedModels(Models):
    """`Models` whose models serve up to `parallel` requests at once.

    `take` and `give_back` are `use` for callers that have no thread of their own; assistants use `use`.
    """

    def __init__(
        self,
        models: Mapping[str, LocalModel],
        memory: int | str,
        parallel: int,
        on_load: Callable[[str], None] = lambda name: None,
    ) -> None:
        super().__init__(models, memory, on_load)
        self._parallel = parallel
        self._counting = threading.Lock()
        self._past: dict[str, Counter[str]] = {}  # of models that were unloaded

    @contextmanager
    def use(self, name: str, unwanted: threading.Event | None = None) -> Iterator[Any]:
        """The model `name` for one answer, as if it were a `Llama`."""
        with super().use(name, unwanted) as hosted:
            if not isinstance(hosted, Hosted):
                raise EdgeMoEError(f"{name!r} makes embeddings, not text")
            yield SharedLlama(hosted)

    def take(self, name: str, owner: int, unwanted: threading.Event | None = None) -> Hosted | Embedder:
        """The model, loaded, until `give_back` of the same `owner`: any number that is no thread's.

        Raises:
            Cancelled: it was `unwanted` before there was room.
            EdgeMoEError: what loading raises.
        """
        hosted: Hosted | Embedder = self._take(name, owner, unwanted)
        return hosted

    def give_back(self, name: str, owner: int) -> None:
        """Ends what `take` began."""
        self._leave(name, owner)

    def counters(self) -> tuple[dict[str, Stats], dict[str, Counter[str]]]:
        """By name: the counters of the models in memory, and the sums of `hits`, `misses` and `bytes_read` of all
        models since this object began, whatever was unloaded meanwhile."""
        with self._counting:
            loaded: dict[str, Stats] = {name: hosted.stats() for name, hosted in self.loaded.items()}
            sums = {name: self._past.get(name, Counter()) for name in self._models}
        for name, stats in loaded.items():
            sums[name] = sums[name] + _counted(stats)
        return loaded, sums

    def _unload(self, name: str) -> None:
        with self._counting:
            self._past[name] = self._past.get(name, Counter()) + _counted(self._open[name].stats())
            super()._unload(name)

    def _take(self, name: str, thread: int, unwanted: threading.Event | None = None) -> Any:
        with self._changed:
            hosted = self._open.get(name)
            if hosted is not None and not hosted.works and not self._users.get(name):
                self._unload(name)
        return super()._take(name, thread, unwanted)

    def in_use(self, name: str) -> bool:
        """Whether a request uses the model now."""
        return bool(self._users.get(name))

    def unload_unused(self, limits: Mapping[str, float | None]) -> list[str]:
        """Unloads models that nobody has used for as many seconds as `limits` says by name; returns their names."""
        with self._changed:
            now = time.monotonic()
            unused = [
                name
                for name in self._idle()
                if (seconds := limits.get(name)) is not None and now - self._open[name].last_used >= seconds
            ]
            for name in unused:
                self._unload(name)
            self._changed.notify_all()
        return unused

    def _open_model(self, name: str, memory: int | str) -> Hosted | Embedder:
        from edgemoe.experts import library

        library.load()  # says what is wrong with an installation, where an import would only fail
        from edgemoe.llama import Llama

        model = self._models[name]
        path = model.path or default_model_path()
        options: dict[str, Any] = {"n_threads": model.threads, "n_threads_batch": model.threads}
        options |= {"memory": memory, "quality": model.quality}
        if makes_embeddings(path):
            most = min(model.ctx or _LONGEST_TEXT, summarize(path).n_ctx_train or _LONGEST_TEXT)
            return Embedder(Llama(path, n_ctx=most, n_batch=most, n_ubatch=most, embedding=True, **options))
        options["n_seq_max"] = self._parallel
        lengths = [model.ctx] if model.ctx else usual_lengths(path)
        for ctx in lengths:
            try:
                llm = Llama(path, n_ctx=ctx * self._parallel, **options)
                break
            except BudgetError:
                if ctx == lengths[-1]:
                    raise
        _set_aside(llm)
        for note in llm.notes:
            logger.warning("%s", note)
        use_own_template(llm)
        try:
            return Hosted(llm, self._parallel)
        except BaseException:
            llm.close()
            raise


def _set_aside(llm: Llama) -> None:
    """The experts leave memory to what requests send: all that the server takes of it, or as much as the budget has."""
    size = DEFAULT.bodies
    while size >= MIB:
        try:
            llm._residence.loans.lend("what requests send", size)
            break
        except BudgetError:
            size //= 2
    if size < DEFAULT.bodies:
        message = "the budget has %s for what requests send, which may take %s: they may exceed it"
        logger.warning(message, format_size(size if size >= MIB else 0), format_size(DEFAULT.bodies))


def _counted(stats: Stats) -> Counter[str]:
    return Counter(hits=stats.hits, misses=stats.misses, bytes_read=stats.bytes_read)


def usual_lengths(path: Path) -> list[int]:
    """Context lengths to try, the longest first."""
    trained = summarize(str(path), open_model(str(path))).n_ctx_train or _USUAL_CTX
    longest = min(trained, _USUAL_CTX)
    lengths = [longest]
    while lengths[-1] // 2 >= _SHORTEST_CTX:
        lengths.append(lengths[-1] // 2)
    return lengths
