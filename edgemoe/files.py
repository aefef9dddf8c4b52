"""Small files of our own that survive a crash: replaced as a whole, and changed by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgemoe.errors import WriteError

_HOMES = {
    "XDG_STATE_HOME": ".local/state",
    "XDG_DATA_HOME": ".local/share",
    "XDG_CONFIG_HOME": ".config",
    "XDG_CACHE_HOME": ".cache",
}
"""Variables that say where the user's folders are, and where they are without."""


def state_folder() -> Path:
    """Where is kept what programs note for themselves: the ledger, what feedback taught, when models were used."""
    return _home("XDG_STATE_HOME")


def data_folder() -> Path:
    """Where is kept what the user would miss: models that were pulled, and their names."""
    return _home("XDG_DATA_HOME")


def config_folder() -> Path:
    """Where the user's settings are."""
    return _home("XDG_CONFIG_HOME")


def cache_folder() -> Path:
    """Where is kept what can be had again: measured speeds."""
    return _home("XDG_CACHE_HOME")


def _home(variable: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / _HOMES[variable]) / "edgemoe"


def reason(path: Path, error: OSError) -> str:
    """What the system says of `path`, and the variable to set where one of the user's folders may not be used."""
    said = error.strerror or str(error)
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return said
    with suppress(RuntimeError):  # no home at all
        for variable in _HOMES:
            if path.is_relative_to(_home(variable)):
                return f"{said}; set {variable} to a folder that you may use"
    return said


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Writes `data` to `path`, readable by its owner alone: a crash leaves the file as it was, or as it is to be.

    What is not `durable` may be lost when the machine, not the program, stops.

    Raises:
        WriteError: when it cannot be written; what was there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {reason(path, error)}") from error


@contextmanager
def locked(path: Path, *, busy: str | None = None) -> Iterator[None]:
    """Holds the lock of `path`, a file beside it: other processes and threads that ask for it wait.

    Raises:
        WriteError: when the lock cannot be made; with `busy`, which is then the message, also when somebody has it.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WriteError(f"{lock} cannot be made: {reason(lock, error)}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))  # ends with the process, however it ends
        yield
    except BlockingIOError:
        raise WriteError(busy or "") from None
    finally:
        os.close(handle)
