"""The rooms of the source tree and the arrows between them, and what every file has to have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "edgemoe"
NATIVE = ROOT / "native"
LONGEST = 400

# What each room of the package may import of it. Imports for type checking alone do not count.
_GROUND = {"errors", "sizes", "machine", "_native"}
_MODEL = _GROUND | {"experts", "packs"}
_RUNTIME = _MODEL | {"budget", "residence", "llama", "default_model"}
PYTHON = {
    "__init__": {"errors", "experts"},  # the library is checked before `Llama` is imported
    "__main__": {"cli"},
    "errors": set(),
    "arguments": set(),
    "machine": {"_native"},
    "sizes": {"errors"},
    "files": {"errors"},
    "processes": set(),
    "default_model": {"errors"},
    "experts": {"errors", "_native"},
    "packs": {"errors", "sizes", "machine", "experts", "_native", "__init__"},
    "budget": _MODEL,
    "loans": {"budget", "errors", "machine", "sizes"},
    "pressure": {"machine"},
    "pace": set(),
    "hub": {"errors", "sizes", "files", "default_model", "packs", "running"},
    "running": {"errors", "sizes", "machine", "files", "processes"},
    "share": {"errors", "sizes", "machine", "budget", "loans", "pressure", "running"},
    "residence": _MODEL | {"budget", "loans", "share", "running", "pace"},
    "controls": _MODEL,
    "llama": _MODEL | {"budget", "residence", "controls", "hub"},
    "batching": _RUNTIME,
    "calibrate": _RUNTIME,
    "level_heads": _RUNTIME,
    "conversation": {"errors"},
    "thinking": {"conversation"},
    "assistant": _RUNTIME | {"conversation", "config", "cloud", "routing"},
    "chat": _RUNTIME | {"files", "config", "conversation", "thinking", "assistant"},
    "bench": _RUNTIME | {"batching"},
    "planning": _MODEL | {"files", "budget", "residence", "bench"},
    "server": _RUNTIME | {"batching", "routing", "conversation", "thinking", "config", "assistant", "__init__"},
    "serving": _RUNTIME | {"config", "hub", "server", "bench"},
    "cloud": {"errors", "files", "processes"},
    "config": {"errors", "sizes", "files", "cloud", "hub", "experts"},
    "routing": {"errors", "sizes", "files", "default_model", "_native", "cloud", "config"},  # nothing of the runtime
    "cli": _RUNTIME
    | {"batching", "calibrate", "level_heads", "chat", "bench", "planning", "server", "serving", "cloud", "routing"}
    | {"conversation", "assistant", "config", "hub", "running", "__init__"},
}

# What each room of native/ may include of the others. edgemoe/error.h belongs to all of them.
NATIVE_ROOMS = {
    "kernels": set(),
    "codec": {"kernels"},
    "platform": set(),  # the only one that knows which system this is
    "store": {"platform"},
    "routing": set(),
    "schedule": set(),
    "cache": {"platform", "store", "schedule"},
    "backend": {"platform", "cache", "store", "schedule", "kernels"},
    "bindings": {"platform", "backend", "cache", "store", "schedule", "kernels", "codec", "routing"},
}
KNOW_GGML = {"backend", "bindings"}  # bindings only through the headers of backend
KNOW_PYTHON = {"bindings"}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def cpp_files() -> list[Path]:
    return sorted(path for suffix in ("*.h", "*.cc") for path in NATIVE.rglob(suffix))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Python


def python_room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(node: ast.AST) -> Iterator[str]:
    """Full names of what is imported of the package when the code runs, for example edgemoe.experts.library."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        for child in node.orelse:
            yield from imports(child)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "edgemoe")
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        if (node.module or "").split(".")[0] == "edgemoe":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def room_of_import(name: str) -> str:
    """The package itself when it is a name of its __init__ that is imported."""
    parts = name.split(".")
    if len(parts) == 1:
        return "__init__"
    exists = (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists() or parts[1] == "_native"
    return parts[1] if exists else "__init__"


@pytest.mark.parametrize("path", python_files("edgemoe"), ids=name_of)
def test_python_arrows_run_one_way(path: Path) -> None:
    room = python_room(path)
    assert room in PYTHON, f"{room} is a new room: add what it may import to the table"
    used = {room_of_import(name) for name in imports(ast.parse(path.read_text()))}
    assert used <= PYTHON[room] | {room}


def test_the_table_has_no_cycles() -> None:
    def below(room: str, seen: tuple[str, ...]) -> None:
        assert room not in seen, " -> ".join((*seen, room))
        for other in PYTHON.get(room, ()):
            if other != "__init__":
                below(other, (*seen, room))

    for room in PYTHON:
        below(room, ())


# native/


def native_room(path: Path) -> str | None:
    parts = path.relative_to(NATIVE).parts
    if parts[0] == "tests":
        return None
    rooms = [part for part in parts[:-1] if part in NATIVE_ROOMS]
    return rooms[0] if rooms else None


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


SOURCES = [path for path in cpp_files() if native_room(path)]


def test_every_native_source_has_a_room() -> None:
    outside = {NATIVE / "tests", NATIVE / "fuzz"}
    homeless = {name_of(p) for p in cpp_files() if native_room(p) is None and not outside & set(p.parents)}
    assert homeless == {"native/include/edgemoe/error.h"}
    assert not [i for i in includes(NATIVE / "include/edgemoe/error.h") if i.startswith("edgemoe/")]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_native_arrows_run_one_way(path: Path) -> None:
    room = native_room(path)
    assert room is not None
    for include in includes(path):
        parts = include.split("/")
        if parts[0] == "edgemoe" and len(parts) > 2:
            assert parts[1] in NATIVE_ROOMS[room] | {room}, include
        if parts[0] == "nanobind" or include == "Python.h":
            assert room in KNOW_PYTHON, include
        if re.match(r"(ggml|gguf|llama)\b", include):
            raise AssertionError(f"{include}: nothing of ggml is included, its declarations are our own")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_backend_knows_ggml(path: Path) -> None:
    if native_room(path) not in KNOW_GGML:
        assert not re.search(r"ggml|gguf|llama", path.read_text(), re.IGNORECASE)


@pytest.mark.parametrize("path", [p for p in SOURCES if "include" in p.parts], ids=name_of)
def test_headers_are_mirrored_and_guarded(path: Path) -> None:
    assert "#pragma once" in path.read_text()
    assert path.parent.name in NATIVE_ROOMS
    assert (NATIVE / "src" / path.parent.name).is_dir()


# Every file

EVERY = [*python_files("edgemoe", "examples", "tests", "tools"), *cpp_files()]


def test_files_are_short() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in EVERY}
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def test_nothing_is_left_for_later() -> None:
    later = re.compile("|".join(("TO" + "DO", "FIX" + "ME")))
    assert not [name_of(path) for path in EVERY if later.search(path.read_text())]


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def undocumented(tree: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield "module"
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield node.name


@pytest.mark.parametrize("path", python_files("edgemoe", "examples", "tools"), ids=name_of)
def test_what_is_public_has_a_docstring(path: Path) -> None:
    missing = list(undocumented(ast.parse(path.read_text())))
    if not path.is_relative_to(PACKAGE):
        missing = [name for name in missing if name == "module"]
    assert not missing


def test_the_drop_in_class_documents_its_methods() -> None:
    trees = [ast.parse((PACKAGE / name).read_text()) for name in ("llama.py", "controls.py")]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert {c.name for c in classes} == {"Llama", "Controls"}
    methods = [n for c in classes for n in c.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    assert {m.name for m in methods} >= {"cancel", "stats", "save_state", "load_state", "close"}
    wrapped = {"create_completion", "create_chat_completion"}  # these have the parent's
    assert not [m.name for m in methods if not ast.get_docstring(m) and m.name not in wrapped]
