"""Sends a prompt to the replica that has its beginning in its KV cache."""

from __future__ import annotations

import random
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from edgemoe.serving.prefix import Affinity, Beginnings


class PrefixRouter(RequestRouter):
    """Orders replicas by `Affinity`; Ray takes the first that has a place free.

    The first argument of a request are its beginnings.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        """Knows nothing yet."""
        self._affinity = Affinity()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Each by itself, in the order in which they should be tried; all at once for what has no prompt."""
        prompt = _beginnings(pending_request)
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # all are tried, so that the next look may wait
        if not prompt:
            return [random.sample(candidate_replicas, len(candidate_replicas))]  # Ray takes the first of equals
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        return [[by_name[name]] for name in self._affinity.order(prompt, list(by_name))]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Remembers where the prompt went."""
        self._affinity.remember(_beginnings(pending_request), replica_id.unique_id)


def _beginnings(request: PendingRequest | None) -> Beginnings:
    return request.args[0] if request is not None and request.args else ()
