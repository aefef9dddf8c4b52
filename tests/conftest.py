from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from models import write_model

if TYPE_CHECKING:
    from edgemoe import Llama
    from hub_server import Home, Hub
    from serving import Running

TOOLS = Path(__file__).resolve().parents[1] / "tools"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a background job; its children would never see Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What other processes of this machine run does not matter to tests, and tests do not matter to them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


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


@pytest.fixture(scope="session")
def remote_models(tmp_path_factory: pytest.TempPathFactory, model_factory) -> dict[str, Path]:
    """For a hub: of two types, as a pack, and in two shards ("split" is the first, "second" the other)."""
    from hub_server import write_remote_models

    return write_remote_models(tmp_path_factory.mktemp("remote"), model_factory)


@pytest.fixture
def hub(remote_models: dict[str, Path]) -> Iterator[Hub]:
    """A server that speaks the hub's API (see `hub_server`), with models of two types."""
    from hub_server import REPOSITORY, serving

    with serving() as hub:
        hub.add(REPOSITORY, remote_models["Q4_K_M"], remote_models["Q8_0"])
        hub.files[REPOSITORY]["README.md"] = b"A small model."
        yield hub


@pytest.fixture
def home(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The folders of a user of that hub, for this process and for programs; how fast this machine is, is known."""
    from hub_server import HOMES, Home

    home = Home(tmp_path, hub)
    for name in HOMES:
        monkeypatch.setenv(name, home.environment[name])
    home.know_this_machine()
    return home


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server of the default model (see `serving`); modules with other needs have their own."""
    from serving import serving

    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def llm() -> Iterator[Llama]:
    """The same model by itself."""
    from serving import alone

    with alone() as llm:
        yield llm


@pytest.fixture(scope="session")
def router_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small prompt router (see `routers`)."""
    from routers import write_router

    return write_router(tmp_path_factory.mktemp("router") / "router.onnx")


@pytest.fixture(scope="session")
def prove_budget() -> ModuleType:
    """tools/prove_budget.py, where control groups can be made."""
    sys.path.insert(0, str(TOOLS))
    try:
        module = importlib.import_module("prove_budget")
    finally:
        sys.path.remove(str(TOOLS))
    if lacking := module.missing(module.MEMORY):
        pytest.skip(lacking)
    return module
