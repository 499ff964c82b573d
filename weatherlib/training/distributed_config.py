"""How the processes of a run find each other, without importing JAX."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from weatherlib import config

__all__ = ["DistributedConfig"]

_ENVIRONMENT = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributedConfig(config.Mapping):
    """How the processes of a run find each other, and when one counts as lost.

    Attributes:
      coordinator: `host:port` of process 0. None: the environment, or what JAX finds
        (SLURM, Open MPI, TPU).
      num_processes: Processes of the run; None as above.
      process_id: Number of this process; None as above.
      start_timeout: Seconds to wait for all processes to start.
      lost_after: Seconds of silence after which a process is lost. One that ends is
        noticed at once.
      grace: Seconds a process may take to end in an orderly way after another is lost.
      barrier_timeout: Seconds to wait at a barrier, unless it is told otherwise.

    Raises:
      ValueError: A number is out of range.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    start_timeout: int = 300
    lost_after: float = 60.0
    grace: float = 30.0
    barrier_timeout: float = 600.0

    def __post_init__(self) -> None:
        for name in ("start_timeout", "lost_after", "grace", "barrier_timeout"):
            if not self[name] > 0:
                raise ValueError(f"{name} must be positive, found {self[name]!r}")
        host, _, port = (self.coordinator or "host:0").rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(
                f"coordinator: expected host:port, such as node001:12345, found "
                f"{self.coordinator!r}"
            )
        count, index = self.num_processes, self.process_id
        no_processes = count is not None and count < 1
        beyond = count is not None and index is not None and index >= count
        if no_processes or beyond or (index is not None and index < 0):
            raise ValueError(
                f"process_id must lie in 0..num_processes - 1, found process_id "
                f"{index} of num_processes {count}"
            )

    def with_environment(self, environment: Mapping[str, str]) -> Self:
        """Returns the configuration with what it leaves open taken from variables.

        Raises:
          ValueError: A variable is no number, or only part of coordinator, count and
            number of the process is known.
        """
        changes: dict[str, Any] = {}
        for name, variable in _ENVIRONMENT.items():
            value = environment.get(variable)
            if self[name] is not None or value is None:
                continue
            if name != "coordinator" and not value.isdigit():
                raise ValueError(f"{variable}: expected a number, found {value!r}")
            changes[name] = value if name == "coordinator" else int(value)
        if set(changes) == {"coordinator"} and self.num_processes is None:
            return self  # Only where to listen; JAX reads this variable itself.
        whole = self.replace(**changes)
        given = [name for name in _ENVIRONMENT if whole[name] is not None]
        if given and len(given) < len(_ENVIRONMENT):
            missing = [name for name in _ENVIRONMENT if whole[name] is None]
            raise ValueError(
                f"{', '.join(given)} given without {', '.join(missing)}: give all "
                f"three, in the configuration or as {', '.join(_ENVIRONMENT.values())}"
                ", or none of them"
            )
        return whole
