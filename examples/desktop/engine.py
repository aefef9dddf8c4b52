"""A model in a thread of its own. Nothing here waits on the window's thread, but for the end."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from PySide6.QtCore import QObject, QThread, Signal, Slot

from edgemoe import Cancelled, EdgeMoEError, Llama
from edgemoe.chat.session import ChatSession


class Engine(QObject):
    """A conversation with a model. Its signals are delivered on the thread of whoever receives them.

    Args:
        model_path: a GGUF file.
        **options: what `edgemoe.Llama` takes.
    """

    loaded = Signal(object)  # list[str]: what edgemoe chose by itself
    piece = Signal(str)
    ended = Signal(str)  # an answer, and how
    failed = Signal(str)  # the model cannot be loaded
    memory_changed = Signal(object)  # Stats, with the budget as it is now
    memory_refused = Signal(str)

    _asked = Signal(str)

    def __init__(self, model_path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__()
        self._model_path = model_path
        self._options = options
        self._llm: Llama | None = None
        self._session: ChatSession | None = None
        self._stop = threading.Event()
        self._controls = ThreadPoolExecutor(1, thread_name_prefix="memory")  # set_memory waits for the running batch
        self._thread = QThread()
        self.moveToThread(self._thread)
        self._thread.started.connect(self._load)
        self._asked.connect(self._answer)

    # Called by the window

    def start(self) -> None:
        """Begins to load the model."""
        self._thread.start()

    def ask(self, text: str) -> None:
        """Goes on with the conversation: `piece` for each piece of the answer, then `ended`."""
        self._stop.clear()
        self._asked.emit(text)

    def stop(self) -> None:
        """Ends the answer: also a long prompt, or a wait for the disk."""
        self._stop.set()
        if self._llm is not None:
            self._llm.cancel()

    def set_memory(self, size: int) -> None:
        """Changes the budget, also while an answer runs: then `memory_changed` or `memory_refused`."""
        self._controls.submit(self._change_memory, size)

    def close(self) -> None:
        """Ends the answer, the threads and the model. Waits for a model that is being loaded."""
        self._thread.quit()
        self._stop.set()
        while not self._thread.wait(50):
            self.stop()  # once is not enough: between two requests there is nothing to cancel yet
        self._controls.shutdown()
        if self._llm is not None:
            self._llm.close()

    # On the model's thread

    @Slot()
    def _load(self) -> None:
        try:
            self._llm = Llama(self._model_path, **self._options)
        except EdgeMoEError as error:  # no such file, a damaged one, too little memory: the message is for people
            self.failed.emit(str(error))
            return
        self._session = ChatSession(self._llm)  # it forgets the oldest turns when the context is full
        self.loaded.emit(list(self._llm.notes))
        self.memory_changed.emit(self._llm.stats())

    @Slot(str)
    def _answer(self, text: str) -> None:
        if self._session is None or self._stop.is_set():
            return self.ended.emit("stopped")
        pieces: Any = self._session.reply(text, temperature=0.7)
        try:
            with closing(pieces):
                for piece in pieces:
                    self.piece.emit(piece)
                    if self._stop.is_set():
                        return self.ended.emit("stopped")
        except Cancelled:
            return self.ended.emit("stopped")
        except EdgeMoEError as error:  # the message is too long, or the disk failed: the model goes on with the next
            return self.ended.emit(str(error))
        return self.ended.emit(self._session.footer())

    # On the thread for memory

    def _change_memory(self, size: int) -> None:
        if self._llm is None:
            return
        try:
            self._llm.set_memory(size)
        except EdgeMoEError as error:  # too small: it says what is the smallest, and nothing has changed
            self.memory_refused.emit(str(error))
        self.memory_changed.emit(self._llm.stats())
