"""The machines, by Ray: which there are, one actor on each, calls to all of them at once. Ray is imported here alone.

Ray starts a node's process where it shall run, starts it again when it ends, and tells which machines are dead. What
it says of a machine is taken for a hint: who may watch a stream is decided by leases.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamguard.cli.logs import LogFormat, LogLevel, set_up
from streamguard.config import parse_listen
from streamguard.errors import FleetMissing, UsageError
from streamguard.fleet.agent import Agent
from streamguard.fleet.messages import Hello, Order, Report, Settings
from streamguard.heap import keep_large_pieces_apart

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

log = logging.getLogger(__name__)

NAMESPACE: Final = "streamguard"
AUTO: Final = "auto"
_PATIENCE: Final = 5.0  # seconds that the head of a cluster may take to accept a connection
_BUSY: Final = 4  # calls that an actor answers at once: a slow `hello` holds no order up


class Machine(NamedTuple):
    """A machine that Ray knows. ``key`` is another one each time Ray is started there; ``name`` is what
    `ray start --node-name` says, or its address. One started with `--num-cpus=0` watches nothing, and is no machine
    here."""

    key: str
    name: str
    alive: bool


class Answer(NamedTuple):
    """What a call brought: a value, or why there is none."""

    value: Any
    error: str | None


class Host:
    """The actor of a machine: an :class:`Agent` that Ray's calls reach."""

    def __init__(self, name: str) -> None:
        keep_large_pieces_apart()
        set_up(LogFormat.TEXT, LogLevel.WARNING)
        self._agent = Agent(name)

    def hello(self, settings: Settings) -> Hello:
        """What this machine is, and whether it could follow the settings."""
        return self._agent.hello(settings)

    def turn(self, order: Order) -> Report:
        """Take an order; how things stand."""
        if self._agent.broken:
            os._exit(1)  # then Ray starts the process again
        return self._agent.turn(order)

    def close(self) -> None:
        """End every stream."""
        self._agent.close()


class Call:
    """A call under way."""

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref


class Remote:
    """The actor of a machine, from afar. A call is lost or answered once; it is never tried again by itself."""

    def __init__(self, actor: ActorHandle) -> None:
        self._actor = actor

    def hello(self, settings: Settings) -> Call:
        return Call(self._actor.hello.remote(settings))

    def turn(self, order: Order) -> Call:
        return Call(self._actor.turn.remote(order))

    def close(self) -> Call:
        return Call(self._actor.close.remote())


class Cluster:
    """The Ray cluster at ``address``, for as long as the block lasts; actors outlive it.

    Raises:
        UsageError: Ray is not installed. FleetMissing: there is no cluster at that address.
    """

    def __init__(self, address: str) -> None:
        if find_spec("ray") is None:
            raise UsageError("`streamguard fleet` needs Ray, which is not installed: pip install 'streamguard[fleet]'")
        self._address = address
        self._machines: Sequence[Machine] = ()
        self._over = threading.Event()
        # Ray answers late while its head is away; what it said last holds meanwhile.
        self._thread = threading.Thread(target=self._follow, name="machines", daemon=True)

    def __enter__(self) -> Cluster:
        import ray
        from ray.exceptions import RayError

        try:
            _knock(self._address)  # Ray itself would try for minutes
            ray.init(address=self._address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise FleetMissing(
                f"no Ray cluster at '{self._address}': {reason}. Start one by `ray start --head`, or set fleet.address."
            ) from error
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        import ray

        self._over.set()
        ray.shutdown()

    @property
    def machines(self) -> Sequence[Machine]:
        """All that there are and were, as Ray said last."""
        return self._machines

    def host(self, machine: Machine) -> Remote | None:
        """The actor of a machine: the one that is there, or a new one. None where Ray can't say just now: it is asked
        again at the next beat, and the other machines go on."""
        import ray
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = ray.remote(Host).options(
            name=f"{machine.name}/{machine.key}",
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=_BUSY,
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine.key, soft=False),
        )
        try:
            return Remote(options.remote(machine.name))
        except (RayError, ConnectionError, RuntimeError, ValueError) as error:
            log.warning("node '%s' has no process yet: %s", machine.name, str(error).partition("\n")[0])
            return None

    def gather(self, calls: Mapping[str, Call], timeout: float) -> Mapping[str, Answer]:
        """The calls that have been answered within ``timeout`` seconds, or have failed, by key."""
        import ray

        keys = {call.ref: key for key, call in calls.items()}
        if not keys:
            self._over.wait(timeout)
            return {}
        done, _ = ray.wait(list(keys), num_returns=len(keys), timeout=timeout)
        return {keys[ref]: _answer(ref) for ref in done}

    def _follow(self) -> None:
        while not self._over.wait(1.0):
            self._look()

    def _look(self) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            nodes = ray.nodes()
        except (RayError, ConnectionError, RuntimeError) as error:
            log.warning("Ray does not say which machines there are: %s", str(error).partition("\n")[0])
            return
        self._machines = tuple(
            Machine(node["NodeID"], node["NodeName"], node["Alive"])
            for node in nodes
            if not node["Alive"] or node["Resources"].get("CPU", 0) > 0
        )


def _knock(address: str) -> None:
    """Raises: OSError: nobody listens there. ValueError: it is no address."""
    if address == AUTO:
        return
    with socket.create_connection(parse_listen(address), _PATIENCE):
        return


def _answer(ref: ObjectRef) -> Answer:
    import ray
    from ray.exceptions import RayError

    try:
        return Answer(ray.get(ref), None)
    except RayError as error:
        return Answer(None, str(error).strip().partition("\n")[0] or type(error).__name__)
