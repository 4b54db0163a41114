"""The state of a training run, and its file: a resumed run continues bit for bit."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from robosteer_rig.errors import RobosteerError
from robosteer_training.files import write_file
from robosteer_training.finetune.adapter import Adapter

SCHEMA = "robosteer.train_state/1"


class TrainState(NamedTuple):
    """What a step reads and replaces; nothing frozen is in it.

    Attributes:
        step: number of finished steps.
        adapter: trainable leaves.
        opt_state: moments of the trainable leaves only.
    """

    step: Any
    adapter: Adapter
    opt_state: optax.OptState


@dataclasses.dataclass
class History:
    """What was measured on the way.

    Attributes:
        loss: training loss of every step.
        grad_norm: global norm of the gradient of every step, before clipping.
        heldout: (step, held-out loss) pairs; the first is before training.
        action_error: (step, held-out action error) pairs, see `Heldout.action_error`.
        seconds: time spent in finished steps, over all sessions.
        waited_s: time that steps waited for data, on top of `seconds`.
    """

    loss: list[float] = dataclasses.field(default_factory=list)
    grad_norm: list[float] = dataclasses.field(default_factory=list)
    heldout: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    action_error: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    waited_s: float = 0.0

    @property
    def idle_share(self) -> float:
        """Share of the time in which the devices waited for data."""
        return self.waited_s / max(self.seconds + self.waited_s, 1e-9)


def save_state(path: Path, state: TrainState, history: History, identity: str) -> None:
    """Write the state in one piece; on a full disk the last one stays intact.

    Args:
        path: a `.npz` file.
        state: the state, as host arrays.
        history: the measurements.
        identity: digest of everything that must be the same when resuming.
    """
    leaves = jax.tree.leaves(state)
    meta = {"schema": SCHEMA, "identity": identity, "history": dataclasses.asdict(history)}
    arrays = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    # Straight into the file: of a model that trains whole, 40 GB would be in memory a second time.
    write_file(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def load_state(path: Path, like: TrainState, identity: str) -> tuple[TrainState, History]:
    """Read a state.

    Args:
        path: the file.
        like: a fresh state (arrays or shapes), which gives structure and shapes.
        identity: see `save_state`.

    Returns:
        The state as host arrays, and the measurements.

    Raises:
        RobosteerError: no such file, a damaged one, or one of another run.
    """
    leaves, tree = jax.tree.flatten(like)
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(bytes(file["meta"]))
            found = [file[f"leaf_{i}"] for i in range(len(leaves))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RobosteerError(f"{path}: cannot read the training state ({error}); start without --resume") from error
    if meta.get("schema") != SCHEMA or meta["identity"] != identity:
        raise RobosteerError(
            f"{path}: found the state of another run (other data, heads, recipe or settings), expected this one's; "
            "start without --resume"
        )
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(found, leaves, strict=True)):
        raise RobosteerError(f"{path}: found arrays of other shapes, expected this run's; start without --resume")
    history = History(**meta["history"])
    history.heldout = [(int(step), float(loss)) for step, loss in history.heldout]
    history.action_error = [(int(step), float(error)) for step, error in history.action_error]
    return jax.tree.unflatten(tree, found), history
