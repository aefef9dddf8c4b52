"""A chat in a window: python examples/desktop [MODEL] [--memory 4GiB]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from engine import Engine
from PySide6.QtWidgets import QApplication
from window import ChatWindow

from edgemoe.default_model import default_model_path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A chat in a window")
    parser.add_argument("model", nargs="?", help="a GGUF file; without one, the small model that comes with edgemoe")
    parser.add_argument("--memory", default="auto", help="budget of the process, such as 4GiB or 50%% (auto)")
    parser.add_argument("--ctx", type=int, help="context in tokens")
    chosen = parser.parse_args(arguments)
    application = QApplication(sys.argv[:1])
    window = ChatWindow(Engine(chosen.model or default_model_path(), memory=chosen.memory, n_ctx=chosen.ctx))
    window.show()
    return int(application.exec())


if __name__ == "__main__":
    sys.exit(main())
