"""Uses examples/desktop as a person would: types, reads, presses Stop, moves the slider, closes while an answer runs.

PYTHONPATH=examples/desktop python tests/desktop_session.py: prints what it saw, as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from engine import Engine
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from window import MIB, ChatWindow

from edgemoe.default_model import default_model_path


def wait(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain for {what}")
        QTest.qWait(10)


def ask(window: ChatWindow, text: str) -> None:
    window.prompt.setFocus()
    QTest.keyClicks(window.prompt, text)
    QTest.keyClick(window.prompt, Qt.Key.Key_Return)


def status(window: ChatWindow) -> str:
    return window.statusBar().currentMessage()


def memory(window: ChatWindow, mib: int) -> None:
    window.memory.setValue(mib)


def main() -> None:
    application = QApplication([])
    window = ChatWindow(Engine(default_model_path(), memory="1GiB", n_ctx=512))
    window.show()
    seen: dict[str, object] = {"platform": application.platformName(), "while loading": status(window)}
    wait(window.prompt.isEnabled, "the model")

    pieces: list[str] = []
    window._engine.piece.connect(pieces.append)
    ask(window, "Tell me a story about a fish.")
    wait(lambda: len(pieces) > 3, "the answer")
    seen["typed into"] = window.conversation.toPlainText().splitlines()[0]
    memory(window, 800)  # while the answer runs
    wait(lambda: "800 MiB" in window.memory_label.text(), "the new budget")
    seen["pieces before the end"] = len(pieces)
    wait(lambda: not window.stop_button.isEnabled(), "the end of the answer")
    seen["footer"] = status(window)
    seen["answer"] = window.conversation.toPlainText()

    memory(window, 3)
    wait(lambda: "too small" in status(window), "the refusal")
    seen["refused"] = status(window).splitlines()[0]
    wait(lambda: window.memory.value() != 3, "the slider to go back")
    seen["slider"] = window.memory.value()

    pieces.clear()
    ask(window, "Tell me a story about a bird.")
    wait(lambda: len(pieces) > 3, "the second answer")
    QTest.mouseClick(window.stop_button, Qt.MouseButton.LeftButton)
    wait(lambda: status(window) == "stopped", "the stop")

    pieces.clear()
    ask(window, "Tell me a story about a boat.")
    wait(lambda: len(pieces) > 1, "the third answer")
    seen["answering at the end"] = window.stop_button.isEnabled()
    seen["budget"] = window._engine._llm.stats().budget_bytes / MIB
    window.close()
    seen["thread ended"] = window._engine._thread.isFinished()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
