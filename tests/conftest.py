from __future__ import annotations

import signal
from pathlib import Path

import pytest

from models import write_model

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a background job; its children would never see Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def model_factory(tmp_path_factory: pytest.TempPathFactory):
    """Writes small random models, each kind once."""
    folder = tmp_path_factory.mktemp("models")
    written: dict[str, list[Path]] = {}

    def get(arch: str, **options: object) -> list[Path]:
        name = "-".join([arch, *(f"{k}={v}" for k, v in sorted(options.items()))])
        if name not in written:
            written[name] = write_model(folder / f"{name}.gguf", arch, **options)
        return written[name]

    return get
