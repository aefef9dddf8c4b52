"""The window: a conversation, a line to type in, and a slider for memory."""

from __future__ import annotations

import os

from engine import Engine
from PySide6.QtCore import Qt, QTimer, Slot
from PySide6.QtGui import QCloseEvent, QTextCursor
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMainWindow,
    QPlainTextEdit,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from edgemoe import Stats

MIB = 1 << 20


class ChatWindow(QMainWindow):
    """A conversation with the model of `engine`, which it closes when it is closed."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.setWindowTitle("edgemoe")
        self.resize(720, 540)
        self._engine = engine
        self._answering = False
        self._build()
        self._connect()
        engine.start()

    def _build(self) -> None:
        self.conversation = QPlainTextEdit(readOnly=True)
        self.prompt = QLineEdit(placeholderText="Say something")
        self.stop_button = QPushButton("&Stop")
        self.memory = QSlider(Qt.Orientation.Horizontal)  # in MiB
        self.memory.setAccessibleName("Memory")
        self.memory_label = QLabel("memory")
        for widget in (self.prompt, self.stop_button, self.memory):
            widget.setEnabled(False)
        row, memory_row = QHBoxLayout(), QHBoxLayout()
        row.addWidget(self.prompt)
        row.addWidget(self.stop_button)
        memory_row.addWidget(self.memory_label)
        memory_row.addWidget(self.memory)
        column = QVBoxLayout()
        column.addWidget(self.conversation)
        column.addLayout(row)
        column.addLayout(memory_row)
        middle = QWidget()
        middle.setLayout(column)
        self.setCentralWidget(middle)
        self.statusBar().showMessage("The model is being loaded …")
        self._moved = QTimer(singleShot=True, interval=200)  # a slider that is dragged says so at every pixel

    def _connect(self) -> None:
        self.prompt.returnPressed.connect(self._ask)
        # At once, on this thread: by itself Qt would queue the call behind the answer, on the engine's thread.
        self.stop_button.clicked.connect(self._engine.stop, Qt.ConnectionType.DirectConnection)
        self.memory.valueChanged.connect(lambda: self._moved.start())
        self._moved.timeout.connect(lambda: self._engine.set_memory(self.memory.value() * MIB))
        self._engine.loaded.connect(self._on_loaded)
        self._engine.piece.connect(self._append)
        self._engine.ended.connect(self._on_end)
        self._engine.failed.connect(self.statusBar().showMessage)
        self._engine.memory_changed.connect(self._on_memory)
        self._engine.memory_refused.connect(self.statusBar().showMessage)

    # The conversation

    @Slot()
    def _ask(self) -> None:
        text = self.prompt.text().strip()
        if not text or self._answering:
            return
        self.prompt.clear()
        self._append(f"You: {text}\n")
        self._answering = True
        self.stop_button.setEnabled(True)
        self.statusBar().showMessage("…")
        self._engine.ask(text)

    @Slot(str)
    def _on_end(self, message: str) -> None:
        self._append("\n\n")
        self._answering = False
        self.stop_button.setEnabled(False)
        self.statusBar().showMessage(message)

    @Slot(str)
    def _append(self, text: str) -> None:
        self.conversation.moveCursor(QTextCursor.MoveOperation.End)
        self.conversation.insertPlainText(text)
        self.conversation.ensureCursorVisible()

    # Memory

    @Slot(object)
    def _on_loaded(self, notes: list[str]) -> None:
        self.prompt.setEnabled(True)
        self.prompt.setFocus()
        self.statusBar().showMessage(" · ".join(notes) or "ready")

    @Slot(object)
    def _on_memory(self, stats: Stats) -> None:
        """The slider is put where the budget is: where it was, when a size was refused."""
        self.memory_label.setText(f"memory {(stats.budget_bytes or 0) / MIB:,.0f} MiB")
        self.memory.blockSignals(True)
        self.memory.setRange(0, _machine_memory() // MIB)
        self.memory.setValue((stats.budget_bytes or _machine_memory()) // MIB)
        self.memory.blockSignals(False)
        self.memory.setEnabled(True)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 (Qt's name)
        self._moved.stop()
        self._engine.close()
        event.accept()


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
