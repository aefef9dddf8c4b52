"""One client for any endpoint that speaks OpenAI's protocol for chat completions, and a ledger of what it costs.

`client` is what others use. `network` is the thread on which all connections live, `exchange` one request with its
retries, `attempt` one connection; `protocol` and `events` know what is sent and what may come back, `deadlines`,
`breaker` and `retries` when to give up. None of these six does any input or output but `network` and `attempt`.
"""

from edgemoe.cloud.client import Cloud
from edgemoe.cloud.endpoint import Endpoint
from edgemoe.cloud.ledger import Ledger
from edgemoe.cloud.protocol import Piece, Usage, estimated_usage

__all__ = ["Cloud", "Endpoint", "Ledger", "Piece", "Usage", "estimated_usage"]
