"""What edgemoe raises. Every message says what was wrong, with which value, and what to do."""


class EdgeMoEError(Exception):
    """Base class of all errors of this package."""


class ModelError(EdgeMoEError):
    """A model file that is missing, damaged, truncated or of a kind that cannot be run."""


class ReadError(EdgeMoEError):
    """A file that could not be opened or read; the model stays usable once the cause is gone."""


class WriteError(EdgeMoEError):
    """A file that could not be written: no space, no permission, or another process writes it."""


class DownloadError(EdgeMoEError):
    """A download that was refused, broke off, or did not bring what it should; what came is kept, and goes on."""


class BudgetError(EdgeMoEError):
    """A memory budget that is too small, or a size that cannot be understood."""


class VersionError(EdgeMoEError):
    """An installed llama-cpp-python that edgemoe was not tested with."""


class ConfigError(EdgeMoEError):
    """A configuration with an unknown key, or a value that cannot be used; the message says where it stands."""


class CloudError(EdgeMoEError):
    """An endpoint that cannot be asked, or that did not answer as it should.

    `started` says whether text had come before; `temporary` whether the same request may work a little later.
    """

    def __init__(self, message: str, *, started: bool = False, temporary: bool = False) -> None:
        super().__init__(message)
        self.started = started
        self.temporary = temporary


class Cancelled(EdgeMoEError):
    """The operation was stopped: by `Llama.cancel()`, after which the tokens before it are still in the KV cache, or by
    the event that was given to a cloud's stream."""
