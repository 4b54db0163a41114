"""The training loop: only adapter leaves have gradients and optimiser state; frozen weights are an argument."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.files import json_digest
from robosteer_training.finetune.adapter import Adapter
from robosteer_training.finetune.batches import Prefetch, Sampler
from robosteer_training.finetune.heldout import Heldout
from robosteer_training.finetune.loss import draw
from robosteer_training.finetune.placement import Placement
from robosteer_training.finetune.plan import Plan
from robosteer_training.finetune.ready import Ready, prepare, start_state
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.state import History, save_state
from robosteer_training.finetune.tracking import Tracker, open_curves
from robosteer_training.finetune.vision import draw_variants
from robosteer_training.frames import Frames, split_episodes
from robosteer_training.interrupt import Stopped, deferred_interrupt

STATE_FILE = "state.npz"
BAD_BATCH_FILE = "bad_batch.npz"


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        adapter: trained leaves, host arrays.
        history: losses and times.
        train_episodes: episodes trained on.
        heldout_episodes: episodes that gave the held-out measurements.
        plan: memory and time; None when there was nothing left to do.
    """

    adapter: Adapter
    history: History
    train_episodes: list[int]
    heldout_episodes: list[int]
    plan: Plan | None = None


@dataclasses.dataclass(frozen=True)
class Watch:
    """Who is told what.

    Attributes:
        progress: called after every step with (finished steps, history).
        plan: called with the plan before the first step.
        log: where curves go.
    """

    progress: Callable[[int, History], None] | None = None
    plan: Callable[[Plan], None] | None = None
    log: Tracker = "none"


def train(
    params: Mapping[str, Any],
    spec: AdapterSpec,
    frames: Frames,
    settings: TrainSettings,
    directory: Path,
    *,
    source: str = "",
    resume: bool = False,
    watch: Watch = Watch(),
    placement: Placement | None = None,
) -> TrainResult:
    """Train an adapter. Every process of a distributed run calls this with the same arguments.

    Args:
        params: base parameters; never changed.
        spec: what is trained.
        frames: the data.
        settings: the numbers.
        directory: where the state lies; `state.npz` is written every `save_every` steps and on Ctrl-C or SIGTERM.
        source: digests of base and data; a state of another source is not resumed.
        resume: continue from the saved state, if there is one.
        watch: who is told what.
        placement: devices; None copies everything to each of them and splits the batch.

    Raises:
        Stopped: Ctrl-C or SIGTERM, after the state was saved.
        RobosteerError: the loss stopped being finite (the state before it is saved), the state is another run's, or
            the run does not fit into memory.
    """
    placement = placement or Placement()
    identity = json_digest({"spec": spec.to_json(), "settings": settings.identity(), "source": source})
    kept, held_out = split_episodes(frames.episode_index, settings.holdout, settings.seed)
    sampler = make_sampler(frames, kept, settings, spec)
    batches = _Batches(frames, sampler, settings, spec, placement)
    state, history = start_state(params, spec, settings, directory / STATE_FILE if resume else None, identity)
    episodes = (kept.tolist(), held_out.tolist())
    first = int(state.step)
    placement.check_same_start(first)
    if first == settings.steps:
        return TrainResult(state.adapter, history, *episodes)
    ready = prepare(params, state, spec, settings, placement, batches.make(first))
    if watch.plan is not None and placement.is_main:
        watch.plan(ready.plan)
    heldout = Heldout(ready.step, frames, frames.rows_of(held_out))
    _Loop(ready, heldout, history, directory, identity, watch).run(range(first, settings.steps), batches)
    return TrainResult(placement.fetch(ready.state.adapter), history, *episodes, ready.plan)


def make_sampler(frames: Frames, episodes: np.ndarray, settings: TrainSettings, spec: AdapterSpec) -> Sampler:
    """Which frames make which batch.

    Raises:
        RobosteerError: a task that must be told apart has no frames.
    """
    rows = frames.rows_of(episodes)
    if not spec.owners and not settings.balance_tasks:
        return Sampler((rows,), settings.batch_size, settings.seed)
    tasks = frames.task_index if frames.task_index is not None else np.zeros(len(frames), int)
    count = max(spec.owners) + 1 if spec.owners else max(len(frames.tasks), 1)
    each = tuple(rows[tasks[rows] == task] for task in range(count))
    if empty := [task for task, mine in enumerate(each) if not len(mine)]:
        raise RobosteerError(f"tasks: found no frames to train on for task {empty[0] + 1} of {count}; lower --holdout")
    return Sampler(each, settings.batch_size, settings.seed, alternate=bool(spec.owners))


@dataclasses.dataclass(frozen=True)
class _Batches:
    """Makes the batch of a step, on the devices."""

    frames: Frames
    sampler: Sampler
    settings: TrainSettings
    spec: AdapterSpec
    placement: Placement

    def make(self, step: int) -> dict[str, Any]:
        """This process's rows are gathered, everyone's noise is drawn: it depends on the row's place in the batch."""
        settings, config = self.settings, self.spec.config
        mine = self.placement.local_rows(settings.batch_size)
        variants = draw_variants(settings, step)
        batch = self.frames.gather(self.sampler(step)[mine], None if variants is None else variants[mine])
        key = jax.random.fold_in(jax.random.key(settings.seed + 1), step)
        shape = (settings.batch_size, config.action_horizon, config.action_dim)
        noise, times = draw(key, shape, settings.flow_draws)
        batch |= {"noise": np.asarray(noise)[mine], "time": np.asarray(times)[mine]}
        return self.placement.rows(batch, settings.batch_size)


class _Loop:
    """The steps of one session."""

    def __init__(
        self, ready: Ready, heldout: Heldout, history: History, directory: Path, identity: str, watch: Watch
    ) -> None:
        self._ready, self._heldout, self._history = ready, heldout, history
        self._directory, self._identity, self._watch = directory, identity, watch
        self._settings, self._placement = ready.step.settings, ready.step.placement

    def run(self, steps: range, batches: _Batches) -> None:
        """Measure, step, measure, save."""
        settings = self._settings
        if not self._history.heldout:
            self._measure(0)
        log = self._watch.log if self._placement.is_main else "none"
        curves = open_curves(log, self._directory / "curves")
        try:
            with deferred_interrupt() as interrupt, Prefetch(batches.make, steps) as prefetched:
                for step, batch in zip(steps, prefetched, strict=True):
                    values = self._step(step, batch, batches.sampler)
                    done = step + 1
                    last = done == settings.steps
                    if last or (settings.eval_every and done % settings.eval_every == 0):
                        values |= self._measure(done)
                    self._account(prefetched)
                    curves.write(done, values)
                    if self._watch.progress is not None and self._placement.is_main:
                        self._watch.progress(done, self._history)
                    stop = self._placement.greatest(interrupt.signal)
                    if last or done % settings.save_every == 0 or stop:
                        self._save()
                    if stop and not last:
                        raise Stopped(f"stopped at step {done} of {settings.steps}", stop)
        finally:
            curves.close()

    def _step(self, step: int, batch: dict[str, Any], sampler: Sampler) -> dict[str, float]:
        ready = self._ready
        start = time.monotonic()
        ready.state, measured = ready.program(ready.state, ready.frozen, batch, np.bool_(True))
        loss, norm = float(measured["loss"]), float(measured["grad_norm"])
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._stop_at(step, batch, sampler(step), loss)
        self._history.loss.append(loss)
        self._history.grad_norm.append(norm)
        self._history.seconds += time.monotonic() - start
        return {"loss": loss, "grad_norm": norm}

    def _measure(self, done: int) -> dict[str, float]:
        ready, heldout = self._ready, self._heldout
        if not len(heldout.rows):
            return {}
        values = {"heldout_loss": heldout.loss(ready.state.adapter, ready.frozen)}
        self._history.heldout.append((done, values["heldout_loss"]))
        error = heldout.action_error(ready.state.adapter, ready.frozen)
        if error is not None:
            self._history.action_error.append((done, error))
            values["heldout_action_error"] = error
        return values

    def _account(self, prefetched: Prefetch) -> None:
        self._history.waited_s += prefetched.waited_s
        prefetched.waited_s = 0.0

    def _save(self) -> None:
        state = self._placement.fetch(self._ready.state)
        if self._placement.is_main:
            save_state(self._directory / STATE_FILE, state, self._history, self._identity)

    def _stop_at(self, step: int, batch: dict[str, Any], rows: np.ndarray, loss: float) -> None:
        """The step left the state as it was: save it and the batch, name the frames, give up."""
        self._save()
        flat = {"/".join(str(key.key) for key in path): leaf for path, leaf in jax.tree.leaves_with_path(batch)}
        host = self._placement.fetch(flat)
        if self._placement.is_main:
            # numpy's files know no bfloat16.
            bf16 = jnp.dtype(jnp.bfloat16)
            arrays = {name: x.astype(np.float32) if x.dtype == bf16 else x for name, x in host.items()}
            np.savez(self._directory / BAD_BATCH_FILE, allow_pickle=False, step=step, rows=rows, **arrays)
        raise RobosteerError(
            f"training: found loss {loss} at step {step}, expected a finite number; the state before it and the batch "
            f"with its frames are in {self._directory}; check these frames or lower --peak-lr"
        )
