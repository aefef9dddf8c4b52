"""The server as an application of Ray Serve: `serve run edgemoe.serving.ray:app`.

Ray's proxies see no bodies, so that they cannot choose by prompt: a deployment of gateways reads them and calls the
deployment of replicas, each of which is a server of its own (`edgemoe.server`) without a socket.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi import Request, Response
from ray import serve
from ray.exceptions import ObjectLostError, RayActorError, WorkerCrashedError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.exceptions import BackPressureError, RayServeException

from edgemoe.server.app import create_app
from edgemoe.server.errors import Busy, Unavailable
from edgemoe.server.run import SWITCH_INTERVAL
from edgemoe.server.service import Service
from edgemoe.serving.exchange import Asked, Begun, Part, answer
from edgemoe.serving.gateway import Gateway, Lost
from edgemoe.serving.prefix import Beginnings
from edgemoe.serving.router import PrefixRouter
from edgemoe.serving.settings import Fleet, read_fleet

_LONGEST_ANSWER = 600.0  # seconds that a replica which is to go gets to end what it answers
_PATIENCE = 30.0  # seconds of more or less work before replicas come; going takes ten times as long
_GATEWAY_REQUESTS = 1000


class Replica:
    """One model, one budget, in a process of its own."""

    def __init__(self, fleet: Fleet) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL)
        settings = fleet.server()
        service = Service(settings)
        for name in settings.names:
            service.preload(name)
        self._app = create_app(service, api_key=fleet.api_key, hosts=fleet.host_names)
        self._header = (b"x-edgemoe-replica", serve.get_replica_context().replica_id.unique_id.encode())

    async def answer(self, prompt: Beginnings, asked: Asked) -> AsyncIterator[Part]:
        """The server's answer; its header x-edgemoe-replica says whose it is. `prompt` is for the router."""
        async for part in answer(self._app, asked):
            yield Begun(part.status, (*part.headers, self._header)) if isinstance(part, Begun) else part


class Ingress:
    """What Ray's proxies call."""

    def __init__(self, replicas: Any) -> None:
        self._replicas = replicas.options(stream=True, method_name="answer")
        self._gateway = Gateway(self._ask)

    async def __call__(self, request: Request) -> Response:
        """Answers a request."""
        return await self._gateway.respond(request)

    async def _ask(self, prompt: Beginnings, asked: Asked) -> AsyncGenerator[Part, None]:
        parts = self._replicas.remote(prompt, asked)
        try:
            async for part in parts:
                yield part
        except (asyncio.CancelledError, GeneratorExit):  # the client has gone
            parts.cancel()
            raise
        except BackPressureError as error:
            raise Busy("all replicas are busy, and the queue is full", retry_after=5) from error
        except (RayActorError, WorkerCrashedError, ObjectLostError) as error:
            raise Lost from error
        except RayServeException as error:
            raise Unavailable(f"no replica can be asked: {error}") from error


def app(arguments: dict[str, Any]) -> Any:
    """The application, with settings from `arguments` and the environment (see `Fleet`).

    Raises:
        EdgeMoEError: a setting is wrong.
    """
    fleet = read_fleet(arguments)
    resources: dict[str, Any] = {"num_cpus": fleet.threads}
    if fleet.reserved_memory is not None:
        resources["memory"] = fleet.reserved_memory
    replicas = serve.deployment(
        Replica,
        name="replicas",
        ray_actor_options=resources,
        max_ongoing_requests=fleet.parallel,
        max_queued_requests=fleet.queue,
        graceful_shutdown_timeout_s=_LONGEST_ANSWER,
        autoscaling_config=AutoscalingConfig(
            min_replicas=fleet.min_replicas,
            max_replicas=fleet.max_replicas,
            target_ongoing_requests=fleet.parallel,
            upscale_delay_s=_PATIENCE,
            downscale_delay_s=10 * _PATIENCE,
        ),
        request_router_config=RequestRouterConfig(request_router_class=PrefixRouter),
    )
    gateways = serve.deployment(
        Ingress,
        name="gateways",
        num_replicas=fleet.gateways,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_GATEWAY_REQUESTS,
        graceful_shutdown_timeout_s=_LONGEST_ANSWER,
    )
    return gateways.bind(replicas.bind(fleet))
