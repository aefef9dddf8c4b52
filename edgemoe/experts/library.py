"""Loads llama-cpp-python and registers edgemoe's backend with its copy of ggml."""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Callable
from typing import Any

from edgemoe.errors import EdgeMoEError, VersionError

SUPPORTED_VERSIONS = ("0.3.36",)
"""The llama-cpp-python releases whose ggml this version of edgemoe was tested with."""

_lock = threading.Lock()
_loaded = False
_load_hook = threading.local()


def installed_version() -> str:
    """The version of llama-cpp-python that is installed.

    Raises:
        VersionError: when there is none, or edgemoe was not tested with it.
    """
    supported = ", ".join(SUPPORTED_VERSIONS)
    try:
        version = importlib.metadata.version("llama-cpp-python")
    except importlib.metadata.PackageNotFoundError:
        raise VersionError(f"llama-cpp-python is not installed: pip install llama-cpp-python=={supported}") from None
    if version not in SUPPORTED_VERSIONS:
        raise VersionError(
            f"llama-cpp-python {version} is installed, but edgemoe needs {supported}: "
            f"pip install llama-cpp-python=={SUPPORTED_VERSIONS[-1]}"
        )
    return version


def load() -> None:
    """Makes the backend known to llama.cpp. Repeated calls do nothing.

    Raises:
        VersionError: when llama-cpp-python is missing or of another version.
        EdgeMoEError: when the backend does not load, or the library behaves differently from the tested one.
    """
    global _loaded
    with _lock:
        if _loaded:
            return
        installed_version()
        try:
            from edgemoe import _native
        except ImportError as error:
            raise EdgeMoEError(f"edgemoe's native library does not load: {error}; reinstall edgemoe") from error
        import llama_cpp.llama_cpp as bindings

        _native.bind_library(bindings._lib._handle)
        guard = _native.LibraryGuard(quiet=True)
        try:
            _native.load_backend(_native.__file__)
        finally:
            guard.close()
        _route_model_loads(bindings)
        _route_contexts(bindings)
        _loaded = True


def _route_model_loads(bindings: Any) -> None:
    """`llama_cpp.Llama` offers no way to pass a stream or buffer types: a hook of the calling thread takes over."""
    original = bindings.llama_model_load_from_file

    def llama_model_load_from_file(path: bytes, params: Any) -> Any:
        hook = getattr(_load_hook, "current", None)
        return original(path, params) if hook is None else hook(params)

    bindings.llama_model_load_from_file = llama_model_load_from_file


def _route_contexts(bindings: Any) -> None:
    """Nor does it offer every setting of a context."""
    original = bindings.llama_init_from_model

    def llama_init_from_model(model: Any, params: Any) -> Any:
        for name, value in getattr(_load_hook, "context", {}).items():
            setattr(params, name, value)
        return original(model, params)

    bindings.llama_init_from_model = llama_init_from_model


class model_load:
    """Context in which model loads of this thread go to `hook(params) -> llama_model_p` (None changes nothing), and
    contexts that it makes get these `settings`: names of llama_context_params."""

    def __init__(self, hook: Callable[[Any], Any] | None, **settings: int) -> None:
        self._hook = hook
        self._settings = settings

    def __enter__(self) -> None:
        _load_hook.current = self._hook
        _load_hook.context = self._settings

    def __exit__(self, *_: object) -> None:
        _load_hook.current = None
        _load_hook.context = {}
