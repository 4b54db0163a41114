"""The thread that loads a checkpoint and infers, so that nothing else ever waits for a model."""

from __future__ import annotations

import threading
import time
import traceback

from robosteer_policy.acting import Result
from robosteer_policy.agent import Agent
from robosteer_policy.requests import Look, Request
from robosteer_policy.slot import Closed, LatestSlot
from robosteer_policy.sources import Source
from robosteer_policy.timing import Timing
from robosteer_rig.rig import Rig


class Worker:
    """Loads once, then infers the newest request; an `acting.Inference`.

    Attributes:
        failure: why the checkpoint cannot be used, one line; empty otherwise.
        fingerprint: of the loaded backend; empty until it is loaded.
        latency: durations of inferences.
    """

    def __init__(self, source: Source, rig: Rig) -> None:
        self._source = source
        self._rig = rig
        self._requests: LatestSlot[Request] = LatestSlot()
        self._results: LatestSlot[Result] = LatestSlot()
        self._looks: LatestSlot[Look] = LatestSlot()
        self._busy = threading.Event()
        self._loaded = threading.Event()
        self.failure = self.fingerprint = ""
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

    @property
    def slow_ns(self) -> int:
        """Duration that one recent inference in twenty exceeded."""
        return int(self.latency.quantile_s(0.95) * 1e9)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def ask(self, request: Request) -> None:
        """Start an inference."""
        self._busy.set()
        self._requests.put(request)

    def take(self) -> Result | None:
        """The result of the last inference, once."""
        return self._results.take()

    def look(self) -> Look | None:
        """What somebody wanted to see of the last inference, once."""
        return self._looks.take()

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread after the inference under way."""
        self._requests.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            backend = self._source.load(self._rig)
            agent = Agent(backend, self._rig)
            self.fingerprint = backend.fingerprint
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

    def _infer(self, agent: Agent, request: Request) -> None:
        start = time.monotonic()
        try:
            result = Result(request, agent.act(request))
        except Exception as error:  # noqa: BLE001 - a failed inference stops the run and says why
            result = Result(request, None, _line(error))
        self.latency.add(time.monotonic() - start)
        self._results.put(result)
        if request.overlays and not result.trouble:
            self._looks.put(self._look(agent, request))
        self._busy.clear()

    def _look(self, agent: Agent, request: Request) -> Look:
        """After the actions, so that no chunk waits for a picture, and what fails here ends no run."""
        try:
            return agent.look(request)
        except Exception as error:  # noqa: BLE001 - said instead of shown
            return Look(request, {}, _line(error))


def _line(error: Exception) -> str:
    """A user's error as its own line; a bug of ours with its traceback on stderr and its type in the line."""
    if getattr(error, "user_error", False):
        return str(error)
    traceback.print_exception(error)
    return f"policy: {type(error).__name__}: {error}".splitlines()[0]
