"""What goes wrong with a request, before each API puts it into its own words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from edgemoe.errors import BudgetError, Cancelled, CloudError, EdgeMoEError, ModelError, ReadError


class RequestError(EdgeMoEError):
    """A request that is refused. `param` names the field that is wrong; `retry_after` says seconds."""

    status = 400
    kind = "invalid_request_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after = retry_after


class TooLong(RequestError):
    """A prompt that does not fit into the context together with an answer."""

    code = "context_length_exceeded"


class UnknownModel(RequestError):
    """A model that is not served."""

    status = 404
    kind = "not_found_error"
    code = "model_not_found"

    def __init__(self, name: str, served: Iterable[str]) -> None:
        names = list(served)
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"this server has {', '.join(map(repr, names))}"
        super().__init__(f"there is no model {name!r}: {hint}", param="model")


class NotFound(RequestError):
    """A path that there is not."""

    status = 404
    kind = "not_found_error"


class WrongMethod(RequestError):
    """A path that wants another method."""

    status = 405
    kind = "invalid_request_error"


class NotAllowed(RequestError):
    """A request without the server's key."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class ForeignHost(RequestError):
    """A request to a name that this server does not have."""

    status = 403
    kind = "permission_error"
    code = "host_not_allowed"


class TooSlow(RequestError):
    """A request that does not come to its end."""

    status = 408
    kind = "timeout_error"


class WrongEncoding(RequestError):
    """A body that is packed."""

    status = 415


class TooLarge(RequestError):
    """A body of more bytes than any context holds."""

    status = 413
    kind = "request_too_large"


class Busy(RequestError):
    """More requests than the queue takes."""

    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"


class Gone(RequestError):
    """A client that has hung up. Nobody gets this but the counters."""

    status = 499


class Failed(RequestError):
    """Something that the server could not do, through no fault of the request."""

    status = 500
    kind = "api_error"


class Unavailable(Failed):
    """A model that cannot be loaded or asked just now."""

    status = 503
    kind = "overloaded_error"


def as_request_error(error: BaseException) -> RequestError:
    """The answer to a request that ended with `error`."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, (BudgetError, ModelError, CloudError, Cancelled)):
        return Unavailable(str(error))
    if isinstance(error, ReadError):
        return Failed(str(error))
    if isinstance(error, EdgeMoEError):
        return RequestError(str(error))
    return Failed(f"the server failed: {error!r}")
