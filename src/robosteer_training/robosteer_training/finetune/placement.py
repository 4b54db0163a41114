"""Where arrays live: one device or many, one process or several.

The batch is split over all devices. Frozen weights and state are copied to each of them (data parallel) or, in groups
of `fsdp` devices, split too (fully sharded): that costs communication and saves memory. The compiler inserts the
communication from these placements alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.processes import told_by_all

_DATA, _FSDP = "data", "fsdp"
# Smaller leaves are not worth splitting.
MIN_SPLIT_BYTES = 4 * 2**20


@dataclasses.dataclass(frozen=True)
class Placement:
    """Devices and how arrays are laid out on them.

    Attributes:
        fsdp: devices that share one copy of weights and state; 1 copies them everywhere.
        min_split_bytes: leaves below this are copied all the same.
    """

    fsdp: int = 1
    min_split_bytes: int = MIN_SPLIT_BYTES

    def __post_init__(self) -> None:
        if self.fsdp < 1 or jax.device_count() % self.fsdp:
            raise RobosteerError(f"--fsdp: found {self.fsdp}, expected a divisor of the {jax.device_count()} devices")

    @cached_property
    def mesh(self) -> Mesh:
        """All devices, processes in order."""
        devices = np.array(jax.devices()).reshape(-1, self.fsdp)
        return Mesh(devices, (_DATA, _FSDP))

    @property
    def everywhere(self) -> NamedSharding:
        """A copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def by_rows(self) -> NamedSharding:
        """The leading axis over all devices."""
        return NamedSharding(self.mesh, PartitionSpec((_DATA, _FSDP)))

    def weight(self, shape: tuple[int, ...], nbytes: int, stacked: bool) -> NamedSharding:
        """Layout of a weight or of its state.

        Args:
            shape: of the leaf.
            nbytes: of the leaf.
            stacked: the first axis counts layers, over which the model scans: it is never split.
        """
        axes = range(1 if stacked else 0, len(shape))
        fitting = [axis for axis in axes if shape[axis] % self.fsdp == 0]
        if self.fsdp == 1 or nbytes < self.min_split_bytes or not fitting:
            return self.everywhere
        largest = max(fitting, key=lambda axis: shape[axis])
        return NamedSharding(
            self.mesh, PartitionSpec(*(_FSDP if axis == largest else None for axis in range(len(shape))))
        )

    def put(self, array: Any, sharding: NamedSharding) -> jax.Array:
        """Place an array that every process holds in full."""
        if jax.process_count() == 1:
            return jax.device_put(array, sharding)
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def local_rows(self, size: int) -> slice:
        """Which rows of a batch this process has to provide.

        Raises:
            RobosteerError: when the batch cannot be split evenly.
        """
        if size % jax.device_count():
            raise RobosteerError(
                f"batch size: found {size}, expected a multiple of the {jax.device_count()} devices that share it"
            )
        each = size // jax.process_count()
        return slice(jax.process_index() * each, (jax.process_index() + 1) * each)

    def rows(self, batch: Mapping[str, Any], size: int) -> dict[str, Any]:
        """Place this process's rows of a batch of `size` rows."""

        def place(leaf: np.ndarray) -> jax.Array:
            if jax.process_count() == 1:
                return jax.device_put(leaf, self.by_rows)
            return jax.make_array_from_process_local_data(self.by_rows, leaf, (size, *leaf.shape[1:]))

        return jax.tree.map(place, dict(batch))

    def fetch(self, tree: Any) -> Any:
        """The whole tree as host arrays, on every process."""
        if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
            return jax.device_get(tree)
        return jax.device_get(jax.jit(lambda x: x, out_shardings=self.everywhere)(tree))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return jax.process_index() == 0

    def greatest(self, value: int) -> int:
        """The greatest value of all processes; all of them must ask."""
        return max(told_by_all(value))

    def check_same_start(self, step: int) -> None:
        """All processes must begin at the same step.

        Raises:
            RobosteerError: some have the state of an earlier session and others do not see it.
        """
        if len(set(steps := told_by_all(step))) > 1:
            raise RobosteerError(
                f"--resume: found processes at steps {steps}, expected all at one; put --out on a file system that "
                "all of them share"
            )
