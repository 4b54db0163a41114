"""What a run will take, known before its first step: memory by part from the compiled program, time from a probe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from robosteer_model.remat import Remat
from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.step import Step

GIB = 2**30


# From the fastest to the smallest. Keeping every activation ("off") is slower than computing all but the large products
# again, on CPUs and on GPUs: writing and reading them takes longer (ADR 0028, 0031).
AUTO: tuple[Remat, ...] = ("light", "full")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one device holds at the peak of a step, and how long the run takes.

    Attributes:
        parts: bytes by part: frozen weights, trained weights, optimiser, batch, activations and gradients.
        available: bytes that a step may use.
        remat: what the backward pass computes again.
        flops: operations of one step.
        devices: how many work together.
        steps: steps to go.
        compile_s: time that compiling took.
        step_s: measured time of one step; 0 before the probe.
    """

    parts: dict[str, int]
    available: int
    remat: Remat
    flops: float
    devices: int
    steps: int
    compile_s: float = 0.0
    step_s: float = 0.0

    @property
    def needed(self) -> int:
        """Bytes."""
        return sum(self.parts.values())

    @property
    def eta_s(self) -> float:
        """Seconds for the steps to go, measurements and saving not counted."""
        return self.step_s * self.steps

    def lines(self) -> list[str]:
        """For people."""
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in self.parts.items())
        speed = self.flops / max(self.step_s, 1e-9) / 1e12
        return [
            f"memory {self.needed / GIB:.2f} of {self.available / GIB:.2f} GiB per device ({parts}); "
            f"rematerialisation {self.remat}",
            f"time   {self.step_s:.3f} s per step on {self.devices} device{'s' * (self.devices > 1)} "
            f"({self.flops / 1e12:.3g} TFLOP, {speed:.3g} TFLOP/s), {_duration(self.eta_s)} for {self.steps} steps",
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self) | {"needed": self.needed, "eta_s": self.eta_s}


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def available_bytes(settings: TrainSettings) -> int:
    """Memory that a step may use on one device."""
    if settings.memory_limit_gib:
        return int(settings.memory_limit_gib * GIB)
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return _host_memory() // jax.local_device_count()


def _host_memory() -> int:
    """Free memory of this machine or of the container, whichever is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return free
    return min(free, limit - used)


def check_weights(parts: dict[str, int], available: int, settings: TrainSettings) -> None:
    """Refuse before anything is put on a device when the weights alone do not fit.

    Raises:
        RobosteerError: with what to do.
    """
    if sum(parts.values()) > available:
        raise RobosteerError(_refusal(parts, available, settings))


def choose_step(
    make: Callable[[Remat], Step],
    arguments: Callable[[Step], tuple[Any, Any, Any]],
    parts: dict[str, int],
    available: int,
    settings: TrainSettings,
) -> tuple[Step, jax.stages.Compiled, dict[str, int]]:
    """The fastest step that fits, by the compiler's own account.

    Args:
        make: step for a kind of rematerialisation.
        arguments: abstract arguments of a step.
        parts: bytes of what a step is given.
        available: bytes that it may use.
        settings: whose `remat` restricts the choice.

    Returns:
        The step, its program and bytes by part.

    Raises:
        RobosteerError: nothing fits.
    """
    allowed = AUTO if settings.remat == "auto" else (settings.remat,)
    needed = dict(parts)
    for remat in allowed:
        step = make(remat)
        program = step.compiled(*arguments(step))
        told = program.memory_analysis()
        needed = parts | {"activations and gradients": 0 if told is None else told.temp_size_in_bytes}
        if sum(needed.values()) <= available:
            return step, program, needed
    raise RobosteerError(_refusal(needed, available, settings))


def _refusal(parts: dict[str, int], available: int, settings: TrainSettings) -> str:
    """One line with advice that fits what is large."""
    listed = ", ".join(f"{name} {size / GIB:.3g}" for name, size in parts.items())
    advice = []
    if settings.batch_size // settings.micro_batches > jax.device_count() and "activations and gradients" in parts:
        advice.append(f"--micro-batch {max(settings.batch_size // settings.micro_batches // 2, 1)}")
    if settings.remat not in ("auto", "full") and "activations and gradients" in parts:
        advice.append("--remat auto")
    if not settings.bf16_frozen:
        advice.append("--bf16-frozen")
    if parts.get("optimiser", 0) > parts.get("frozen weights", 0):
        advice.append("--recipe steering")
    advice.append("more devices with --fsdp")
    return (
        f"memory: found {available / GIB:.3g} GiB per device, expected {sum(parts.values()) / GIB:.3g} ({listed}); "
        f"try {' or '.join(advice)}"
    )
