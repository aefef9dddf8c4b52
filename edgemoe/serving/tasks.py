"""Measurements and experts of packs as tasks of a Ray cluster."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from edgemoe.bench.measure import Job, Measurement, Progress, measure
from edgemoe.errors import EdgeMoEError
from edgemoe.packs import codec
from edgemoe.packs.encode import EncodedExpert, Encoder
from edgemoe.packs.layout import Group
from edgemoe.packs.plan import Settings
from edgemoe.packs.planes import Bytes, Floats

if TYPE_CHECKING:
    from edgemoe.packs.calibration import Calibration

_OBJECT_STORE = 200 << 20
"""Bytes, of a cluster that is this machine alone: what is passed on at a time is a few experts."""


@contextmanager
def join(address: str) -> Iterator[Cluster]:
    """The cluster at `address`; "" is the one that runs on this machine, or else this machine alone.

    Raises:
        EdgeMoEError: Ray is not installed, or there is no cluster at `address`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise EdgeMoEError("--ray needs Ray: pip install 'edgemoe[ray]'") from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        ray.init(address=address or "auto", **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address:
            raise EdgeMoEError(f"--ray {address}: there is no cluster to join: {error}") from error
        ray.init(address="local", include_dashboard=False, object_store_memory=_OBJECT_STORE, **quiet)
    try:
        yield Cluster(ray)
    finally:
        ray.shutdown()


class Cluster:
    """The machines that share the work."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._machines = {
            node["NodeID"]: node["Resources"].get("CPU", 0)
            for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        }
        if not self._machines:
            raise EdgeMoEError("the Ray cluster has no processors: start it with --num-cpus")

    @property
    def processors(self) -> int:
        """Of all machines together."""
        return int(sum(self._machines.values()))

    def measure(self, jobs: Sequence[Job], progress: Progress) -> list[Measurement]:
        """Measurements in the order of the jobs. A machine measures one at a time, with all processors for itself."""
        task = self._ray.remote(measure)
        free = list(self._machines)
        running: dict[Any, tuple[int, str]] = {}
        results: list[Measurement | None] = [None] * len(jobs)
        for number, job in enumerate(jobs):
            if not free:
                free.append(self._end_one(running, results))
            progress(job)
            machine = free.pop(0)
            running[self._alone_on(machine, task).remote(job)] = (number, machine)
        while running:
            self._end_one(running, results)
        return [result for result in results if result is not None]

    def _alone_on(self, machine: str, task: Any) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return task.options(
            num_cpus=self._machines[machine],
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine, soft=False),
            max_retries=0,
        )

    def _end_one(self, running: dict[Any, tuple[int, str]], results: list[Measurement | None]) -> str:
        """Waits for one of them; returns the machine that is free then."""
        [done], _ = self._ray.wait(list(running))
        number, machine = running.pop(done)
        results[number] = self._got(done)
        return machine

    def encoder(self, levels: Sequence[int], settings: Settings, tables: codec.Tables) -> RemoteEncoder:
        """Encodes experts on all machines, each of which has the same tables."""
        return RemoteEncoder(self, tuple(levels), settings)

    def encode(self, *arguments: Any) -> EncodedExpert:
        """`_encode` somewhere."""
        task = self._ray.remote(_encode).options(num_cpus=1, scheduling_strategy="SPREAD")
        found: EncodedExpert = self._got(task.remote(*arguments))
        return found

    def _got(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise EdgeMoEError(f"a machine of the Ray cluster failed: {error}") from error


class RemoteEncoder:
    """As `Encoder`, by tasks that get all they need sent: only this process reads the model and writes the pack."""

    def __init__(self, cluster: Cluster, levels: tuple[int, ...], settings: Settings) -> None:
        self._cluster, self._levels = cluster, levels
        self._calibration = settings.calibration
        self._settings = dataclasses.replace(settings, calibration=None, heads=None)

    def encode(self, group: Group, expert: int, raw: Sequence[Bytes]) -> EncodedExpert:
        """The extents of an expert, made by another process."""
        known = None
        if self._calibration is not None:
            known = OneExpert(self._calibration, group, expert, hessians=self._settings.gptq)
        settings = dataclasses.replace(self._settings, calibration=known)
        return self._cluster.encode(self._levels, settings, group, expert, list(raw))


class OneExpert:
    """What a calibration knows of one expert, without the calibration. It is a `packs.calibration.Calibration`."""

    def __init__(self, known: Calibration, group: Group, expert: int, *, hessians: bool) -> None:
        names = [tensor.name for tensor in group.tensors]
        self.fingerprint = known.fingerprint
        self._inputs = {name: known.input_of(name) for name in names}
        self._importance = {name: known.importance(name, expert) for name in names}
        self._means = {name: known.mean_input(name, expert) for name in names}
        firsts = {owner: name for name, owner in reversed(self._inputs.items())} if hessians else {}
        self._hessians = {owner: known.hessian(name, expert) for owner, name in firsts.items()}

    def input_of(self, tensor: str) -> str:
        """As the calibration's."""
        return self._inputs[tensor]

    def importance(self, tensor: str, expert: int) -> Floats | None:
        """As the calibration's, of this expert."""
        return self._importance[tensor]

    def mean_input(self, tensor: str, expert: int) -> Floats | None:
        """As the calibration's, of this expert."""
        return self._means[tensor]

    def hessian(self, tensor: str, expert: int) -> Floats | None:
        """As the calibration's, of this expert."""
        return self._hessians.get(self._inputs[tensor])


def _encode(levels: tuple[int, ...], settings: Settings, group: Group, expert: int, raw: list[Bytes]) -> EncodedExpert:
    """In a task, with the number of threads that `pack` allows an encoder: others may round otherwise."""
    with threadpool_limits(1, "blas"):
        return Encoder(levels, settings, codec.default_tables()).encode(group, expert, [data.copy() for data in raw])
