"""What a judge sees of the cell at one instant."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Instant:
    """The objects, the tool between the pads, and who touches whom.

    Attributes:
        time_s: since the reset.
        tip: (3,) m, between the pads.
        names: the n objects.
        positions: (n, 3) m.
        quaternions: (n, 4) w, x, y, z.
        heights: (n,) m above where they stand or lie on the table.
        half_lengths: (n,) m from the centre to an end along the object's x axis.
        contacts: pairs of numbers, the larger one first: an object's, or -2 and -3 for the left and the right pad.
    """

    time_s: float
    tip: np.ndarray
    names: tuple[str, ...]
    positions: np.ndarray
    quaternions: np.ndarray
    heights: np.ndarray
    half_lengths: np.ndarray
    contacts: frozenset[tuple[int, int]]

    def number(self, name: str) -> int:
        """The place of an object in the arrays."""
        return self.names.index(name)

    def gripped(self, number: int) -> bool:
        """Whether both pads touch an object."""
        return (number, -2) in self.contacts and (number, -3) in self.contacts

    def padded(self, number: int) -> bool:
        """Whether at least one pad touches an object."""
        return (number, -2) in self.contacts or (number, -3) in self.contacts

    def touching(self, first: int, second: int) -> bool:
        """Whether two objects touch each other."""
        return (max(first, second), min(first, second)) in self.contacts

    def rotation(self, number: int) -> np.ndarray:
        """(3, 3): an object's axes as columns."""
        w, x, y, z = self.quaternions[number]
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )

    def upright(self, number: int) -> float:
        """Cosine of an object's tilt: 1 upright, 0 lying."""
        _, x, y, _ = self.quaternions[number]
        return float(1 - 2 * (x * x + y * y))

    def lowest_point(self, number: int) -> np.ndarray:
        """(3,) m: the lower end of an object with ends, the position of any other."""
        axis = self.rotation(number)[:, 0] * self.half_lengths[number]
        return self.positions[number] - (axis if axis[2] > 0 else -axis)

    def inside(self, goal: int, point: np.ndarray) -> np.ndarray:
        """(3,) m: a point in the goal's own frame."""
        return self.rotation(goal).T @ (point - self.positions[goal])
