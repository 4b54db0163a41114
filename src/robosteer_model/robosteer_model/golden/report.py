"""One compared array: its name, error, tolerance and verdict."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

FLOAT32_TOLERANCE = 2e-4
BFLOAT16_TOLERANCE = 3e-2
# Gradients that are analytically zero (an attention key bias, say) are rounding noise in both programs.
ABSOLUTE_FLOOR = 1e-6


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The verdict on one array.

    Attributes:
        name: the array's key in its file.
        error: largest difference, relative to the largest expected magnitude; number of differing entries when exact.
        tolerance: largest `error` that passes.
        ok: whether it passed.
        note: why it failed when the numbers do not say it (shape, missing, an error message).
    """

    name: str
    error: float
    tolerance: float
    ok: bool
    note: str = ""

    def line(self) -> str:
        """Name, error, tolerance and verdict in fixed columns."""
        verdict = "ok" if self.ok else "MISS"
        note = f"  {self.note}" if self.note else ""
        return f"{self.name:<96} {self.error:>10.3e} {self.tolerance:>10.3e} {verdict}{note}"


def miss(name: str, note: str) -> Comparison:
    """An array that could not be compared."""
    return Comparison(name, float("nan"), 0.0, False, note)


def compare(
    name: str, found: Any, expected: Any, tolerance: float = FLOAT32_TOLERANCE, floor: float = ABSOLUTE_FLOOR
) -> Comparison:
    """Compare floating-point arrays: max|found - expected| <= max(tolerance * max|expected|, floor).

    Args:
        name: the array's key.
        found: what our code computed.
        expected: openpi's array.
        tolerance: allowed difference relative to the largest expected magnitude.
        floor: absolute difference that always passes.
    """
    ours, theirs = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if ours.shape != theirs.shape:
        return miss(name, f"shape {ours.shape}, expected {theirs.shape}")
    if not ours.size:
        return Comparison(name, 0.0, tolerance, True)
    difference = float(np.max(np.abs(ours - theirs)))
    scale = float(np.max(np.abs(theirs)))
    ok = difference <= max(tolerance * scale, floor)  # False for NaN
    return Comparison(name, difference / scale if scale else difference, tolerance, ok)


def bfloat16_tolerance(expected: np.ndarray, in_float32: np.ndarray | None) -> float:
    """Tolerance of a bfloat16 array: 3e-2, or what rounding alone does to this model if that is more.

    Some golden models are ill-conditioned (random adapters): openpi's own bfloat16 and float32 results differ by up to
    50 % of the maximum. Two correct bfloat16 programs, each no further from float32 than openpi's, differ by at most
    twice that distance. (With the compiler that made the files, jax 0.5.3, our code gives their very bits.)

    Args:
        expected: openpi's bfloat16 result.
        in_float32: openpi's float32 result of the same quantity, if the file has it.
    """
    if in_float32 is None or in_float32.shape != expected.shape or not expected.size:
        return BFLOAT16_TOLERANCE
    distance = float(np.max(np.abs(expected - in_float32)))
    return max(BFLOAT16_TOLERANCE, 2 * distance / max(float(np.max(np.abs(expected))), ABSOLUTE_FLOOR))


def compare_exact(name: str, found: Any, expected: Any) -> Comparison:
    """Compare integers, booleans, strings or random draws: every entry must be equal."""
    ours, theirs = np.asarray(found), np.asarray(expected)
    if ours.shape != theirs.shape:
        return miss(name, f"shape {ours.shape}, expected {theirs.shape}")
    differing = int(np.sum(ours != theirs))
    return Comparison(name, float(differing), 0.0, differing == 0)
