"""Local models, loaded when they are needed and unloaded to stay inside one memory budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from edgemoe.budget import resolve_memory
from edgemoe.config import LocalModel
from edgemoe.conversation import use_own_template
from edgemoe.default_model import default_model_path
from edgemoe.errors import BudgetError, Cancelled, EdgeMoEError
from edgemoe.sizes import format_size, parse_size

_TURN = 5.0
"""Seconds that a loaded model may take new requests for, while another one waits for its room."""


@dataclass(eq=False)
class _Waiter:
    """A request that has no model yet."""

    name: str
    since: float = field(default_factory=time.monotonic)


class Models:
    """Opens models by name. A model whose `memory` is not given needs all of the budget, and so is alone.

    Budgets of `Llama` are of the whole process, so each model is opened with its own share and those of the models that
    are open already. Models in use are never unloaded: a request that needs their room waits for them. So that it does
    not wait for ever, models take turns: `_TURN` seconds after the newest load, requests that come later than one that
    waits stand back behind it, and those that are under way end.
    """

    def __init__(
        self,
        models: Mapping[str, LocalModel],
        memory: int | str = "auto",
        on_load: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._models = models
        self._memory = memory
        self._on_load = on_load
        self._open: dict[str, Any] = {}  # the least recently used first
        self._users: dict[str, list[int]] = {}  # threads that began to use each
        self._changed = threading.Condition()
        self._line: list[_Waiter] = []  # the first that came first
        self._loaded_at = 0.0  # when the newest model was loaded, by `time.monotonic`
        self._closed = False

    @property
    def memory(self) -> int | str:
        """The budget of all of them together, as it was given."""
        return self._memory

    @property
    def loaded(self) -> dict[str, Any]:
        """The open models by name, the least recently used first."""
        return dict(self._open)

    @property
    def waited_for(self) -> list[str]:
        """The models of requests that have none yet, the longest waiting first."""
        return [waiter.name for waiter in list(self._line)]

    @contextmanager
    def use(self, name: str, unwanted: threading.Event | None = None) -> Iterator[Any]:
        """The model `name`, loaded, for as long as the block lasts.

        Raises:
            Cancelled: soon after `unwanted` is set while it waits for others.
            EdgeMoEError: what loading raises; other models are as they were, or unloaded.
        """
        thread = threading.get_ident()
        llm = self._take(name, thread, unwanted)
        try:
            yield llm
        finally:
            self._leave(name, thread)

    def set_memory(self, memory: int | str) -> None:
        """Changes the budget of all models together; those that are not in use are unloaded where they do not fit.

        Raises:
            BudgetError: no size, or too small for the model that is open; nothing has changed then.
        """
        if memory != "auto":
            parse_size(memory, whole=1 << 50)
        with self._changed:
            if len(self._open) == 1:
                [(name, llm)] = self._open.items()
                alone = self._models[name].memory in (None, "auto")
                llm.set_memory(memory if alone else min(self._share(name), resolve_memory(memory) or 1 << 62))
            self._memory = memory
            while self._shares() > self._budget() and len(self._open) > 1 and (idle := self._idle()):
                self._unload(idle[0])

    def close(self) -> None:
        """Unloads all models: those in use when their request ends."""
        with self._changed:
            self._closed = True
            for name in self._idle():
                self._unload(name)
            self._changed.notify_all()

    def _take(self, name: str, thread: int, unwanted: threading.Event | None = None) -> Any:
        """The model, once there is room for it; Cancelled within 0.2 s where it is `unwanted` meanwhile."""
        waiter = _Waiter(name)
        with self._changed:
            self._line.append(waiter)
            try:
                while not self._has_room(waiter, thread):
                    if unwanted is not None and unwanted.is_set():
                        raise Cancelled(f"nobody waits for {name} any more")
                    self._changed.wait(1.0 if unwanted is None else 0.2)
                if name not in self._open:
                    self._load(name)
                    self._loaded_at = time.monotonic()
            finally:
                self._line.remove(waiter)
                self._changed.notify_all()
            self._open[name] = self._open.pop(name)
            self._users.setdefault(name, []).append(thread)
            return self._open[name]

    def _has_room(self, waiter: _Waiter, thread: int) -> bool:
        """Whether a request may have its model now, for which others may be unloaded."""
        if self._closed:
            raise EdgeMoEError("the assistant is closed")
        in_use = any(thread in users for users in self._users.values())  # who waits for it may not be waited for
        if not in_use and self._stands_back(waiter):
            return False
        if waiter.name in self._open or self._make_room(waiter.name):
            return True
        if in_use:
            busy = ", ".join(other for other, users in self._users.items() if users)
            raise EdgeMoEError(
                f"{waiter.name} needs the memory of {busy}: read that answer to its end or close it first"
            )
        return False

    def _stands_back(self, waiter: _Waiter) -> bool:
        """Whether somebody who came earlier waits for another model, and has the next turn."""
        ahead = self._line[: self._line.index(waiter)]
        waiting = [one for one in ahead if one.name != waiter.name and one.name not in self._open]
        if waiter.name not in self._open:
            return bool(waiting)
        now = time.monotonic()
        return any(now - max(one.since, self._loaded_at) >= _TURN for one in waiting)

    def _leave(self, name: str, thread: int) -> None:
        with self._changed:
            self._users[name].remove(thread)
            if self._closed and not self._users[name]:
                self._unload(name)
            self._changed.notify_all()

    def _make_room(self, name: str) -> bool:
        """Unloads idle models until `name` fits; False where those in use leave no room."""
        while self._open and self._shares() + self._share(name) > self._budget():
            idle = self._idle()
            if not idle:
                return False
            self._unload(idle[0])
        return True

    def _load(self, name: str) -> None:
        self._on_load(name)
        try:
            self._open[name] = self._open_model(name, self._memory_for(name))
        except BudgetError:  # its share is too small beside the others: it may still be large enough alone
            if not self._open or any(self._users.get(other) for other in self._open):
                raise
            for other in list(self._open):
                self._unload(other)
            self._open[name] = self._open_model(name, self._memory_for(name))

    def _open_model(self, name: str, memory: int | str) -> Any:
        from edgemoe.experts import library

        library.load()  # says what is wrong with an installation, where an import would only fail
        from edgemoe.llama import Llama

        model = self._models[name]
        path = model.path or default_model_path()
        options: dict[str, Any] = {"n_threads": model.threads, "n_threads_batch": model.threads}
        llm = Llama(path, memory=memory, quality=model.quality, n_ctx=model.ctx, **options)
        use_own_template(llm)
        return llm

    def _unload(self, name: str) -> None:
        self._open.pop(name).close()

    def _idle(self) -> list[str]:
        return [name for name in self._open if not self._users.get(name)]

    def _budget(self) -> int:
        return resolve_memory(self._memory) or 1 << 62

    def _share(self, name: str) -> int:
        memory = self._models[name].memory
        if memory in (None, "auto"):
            return self._budget()
        return min(resolve_memory(memory) or 0, self._budget())

    def _shares(self) -> int:
        return sum(map(self._share, self._open))

    def _memory_for(self, name: str) -> int | str:
        """The budget of the process with this model open; one that is alone with all of "auto" follows the machine."""
        if not self._open and self._models[name].memory in (None, "auto"):
            return self._memory
        return min(self._shares() + self._share(name), self._budget())

    def describe(self) -> list[tuple[str, str]]:
        """For people: the models that there are, and which of them are loaded."""
        rows = []
        for name, model in self._models.items():
            llm = self._open.get(name)
            share = f", {model.memory} of memory" if model.memory else ""
            state = f"loaded, {format_size(llm.stats().resident_bytes)} of experts" if llm else "not loaded"
            rows.append((name, f"{state}{share}"))
        return rows
