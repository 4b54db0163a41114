"""The thread that loads a checkpoint and infers, so that nothing else ever waits for a model."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
import traceback

from robosteer_policy.acting import Result
from robosteer_policy.agent import Agent, ChunkPolicy
from robosteer_policy.contract import require_contract
from robosteer_policy.slot import Closed, LatestSlot
from robosteer_policy.timing import Timing
from robosteer_rig.frame import Frame
from robosteer_rig.rig import Rig


@dataclasses.dataclass(frozen=True)
class CheckpointSource:
    """Where the policy comes from.

    Attributes:
        path: checkpoint directory.
        config: name of a stock model config, for checkpoints that carry none.
        instruction: the first one; the model is compiled for prompts of its length.
        num_steps: flow steps per inference.
        seed: of the sampling noise.
    """

    path: str
    config: str | None = None
    instruction: str | None = None
    num_steps: int = 10
    seed: int = 0

    def load(self, rig: Rig) -> ChunkPolicy:
        """Compare the contract, load, compile and warm up.

        Raises:
            RobosteerError: when the checkpoint was made for another rig.
            ModelError: for a damaged or unfit checkpoint.
        """
        # Imported here: JAX takes seconds, and the node answers meanwhile.
        from robosteer_model.checkpoint import Manifest
        from robosteer_model.checkpoint_layout import Layout
        from robosteer_model.policy import Policy

        manifest = Manifest.read(Layout.open(self.path).manifest)
        if not require_contract(self.path, manifest.rig, manifest.action_convention, rig):
            sys.stderr.write(f"checkpoint {self.path} says nothing about its rig: check cameras and units yourself\n")
        policy = Policy.load(self.path, config=self.config, num_steps=self.num_steps, seed=self.seed)
        policy.warm_up(self.instruction)
        return policy


@dataclasses.dataclass(frozen=True)
class _Request:
    run: int
    frame: Frame
    instruction: str


class Worker:
    """Loads once, then infers the newest request; an `acting.Inference`.

    Attributes:
        failure: why the checkpoint cannot be used, one line; empty otherwise.
        latency: durations of inferences.
    """

    def __init__(self, source: CheckpointSource, rig: Rig) -> None:
        self._source = source
        self._rig = rig
        self._requests: LatestSlot[_Request] = LatestSlot()
        self._results: LatestSlot[Result] = LatestSlot()
        self._busy = threading.Event()
        self._loaded = threading.Event()
        self.failure = ""
        self.latency = Timing()
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and warm."""
        return self._loaded.is_set()

    @property
    def busy(self) -> bool:
        """Whether an inference is under way."""
        return self._busy.is_set()

    @property
    def latency_ns(self) -> int:
        """Median duration of recent inferences."""
        return int(self.latency.median_s() * 1e9)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def ask(self, run: int, frame: Frame, instruction: str) -> None:
        """Start an inference."""
        self._busy.set()
        self._requests.put(_Request(run, frame, instruction))

    def take(self) -> Result | None:
        """The result of the last inference, once."""
        return self._results.take()

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread after the inference under way."""
        self._requests.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            agent = Agent(self._source.load(self._rig), self._rig)
        except Exception as error:  # noqa: BLE001 - the thread's end; the node reports it and exits
            self.failure = _line(error)
            return
        self._loaded.set()
        while True:
            try:
                request = self._requests.wait()
            except Closed:
                return
            self._infer(agent, request)

    def _infer(self, agent: Agent, request: _Request) -> None:
        start = time.monotonic()
        try:
            result = Result(request.run, agent.act(request.frame, request.instruction))
        except Exception as error:  # noqa: BLE001 - a failed inference stops the run and says why
            result = Result(request.run, None, _line(error))
        self.latency.add(time.monotonic() - start)
        self._results.put(result)
        self._busy.clear()


def _line(error: Exception) -> str:
    """A user's error as its own line; a bug of ours with its traceback on stderr and its type in the line."""
    if getattr(error, "user_error", False):
        return str(error)
    traceback.print_exception(error)
    return f"policy: {type(error).__name__}: {error}".splitlines()[0]
