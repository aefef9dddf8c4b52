"""One client for any endpoint that speaks OpenAI's protocol for chat completions, and a ledger of what it costs.

`client` is what others use. `network` is the thread on which all connections live, `exchange` one request with its
retries, `attempt` one connection; `protocol` and `events` know what is sent and what may come back, `deadlines`,
`breaker` and `retries` when to give up. None of these six does any input or output but `network` and `attempt`.
`ledger` is money in a file, `book` what the file has in it, `money` what a budget is.
"""

from edgemoe.cloud.book import Reservation
from edgemoe.cloud.client import Cloud
from edgemoe.cloud.endpoint import Endpoint
from edgemoe.cloud.ledger import Ledger
from edgemoe.cloud.money import Budget
from edgemoe.cloud.protocol import Piece, Usage, estimated_usage

__all__ = ["Budget", "Cloud", "Endpoint", "Ledger", "Piece", "Reservation", "Usage", "estimated_usage"]
