"""The event loop of a launch: starts processes, answers events, stops everything."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from robosteer_bringup.launcher.context import Entity, LaunchContext, ProcessSpec, visit
from robosteer_bringup.launcher.description import LaunchDescription
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.events import Event, ProcessExited, ProcessStarted, Shutdown, TimerFired
from robosteer_bringup.launcher.output import Output
from robosteer_bringup.launcher.process import ManagedProcess

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CANNOT_START = 127  # What a shell reports for a program that it cannot start.


class Runner:
    """Runs one launch description; create it inside a running event loop.

    Attributes:
        exit_code: 0, or 1 after a process died or the launch itself failed.
    """

    def __init__(self, environment: Mapping[str, str], output: Output, scratch: Path | None = None) -> None:
        self.context = LaunchContext(runtime=self, environment=dict(environment), scratch=scratch)
        self.exit_code = 0
        self._output = output
        output.on_closed = lambda: self.request_shutdown("nobody reads the output any more")
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._pending = 0  # Processes and timers whose final event has not been handled yet.
        self._running: list[ManagedProcess] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._error: LaunchError | None = None

    async def run(self, description: LaunchDescription) -> int:
        """Visit the description, then answer events until no process and no timer is left.

        Returns:
            The exit code.

        Raises:
            LaunchError: for what is wrong in the launch file; raised after everything has been stopped.
        """
        loop = asyncio.get_running_loop()
        for signum in _STOP_SIGNALS:
            loop.add_signal_handler(signum, self._interrupt, signum)
        try:
            self._visit([description])
            await self._until_idle()
            self.request_shutdown("idle")
            await self._until_idle()
            await asyncio.gather(*self._tasks)
        finally:
            for process in self._running:  # Empty, unless a bug of ours brought us here: no robot is left moving.
                process.kill()
            for signum in _STOP_SIGNALS:
                loop.remove_signal_handler(signum)
        if self._error is not None:
            raise self._error
        return self.exit_code

    def start_process(self, spec: ProcessSpec, action: object) -> None:
        """Start a process, unless the launch is stopping."""
        if not self._stopping.is_set():
            self._pending += 1
            self._spawn(self._run_process(spec, action))

    def start_timer(self, period_s: float, actions: Iterable[Entity], *, cancel_on_shutdown: bool) -> None:
        """Visit the actions after `period_s` seconds."""
        self._pending += 1
        self._spawn(self._run_timer(period_s, tuple(actions), cancel_on_shutdown))

    def request_shutdown(self, reason: str, *, due_to_sigint: bool = False) -> None:
        """Stop every process, the newest first; a second request changes nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._events.put_nowait(Shutdown(reason, due_to_sigint))
        for process in reversed(self._running):
            self._spawn(process.shut_down())

    def log(self, text: str) -> None:
        """Show one line to the user."""
        self._output.message("INFO", "launch.user", text)

    async def _until_idle(self) -> None:
        while self._pending or not self._events.empty():
            self._handle(await self._events.get())

    def _visit(self, entities: Iterable[Entity]) -> None:
        try:
            for entity in entities:
                visit(entity, self.context)
        except LaunchError as error:
            self._fail(error)

    def _fail(self, error: LaunchError) -> None:
        self._error = self._error or error
        self.exit_code = 1
        self.request_shutdown(str(error))

    def _handle(self, event: Event) -> None:
        if isinstance(event, ProcessExited | TimerFired):
            self._pending -= 1
        if isinstance(event, TimerFired):
            self._visit(event.entities)
        for handler in [handler for handler in self.context.handlers if handler.matches(event)]:
            try:
                entities = handler.handle(event, self.context)
            except LaunchError as error:
                self._fail(error)
            else:
                self._visit(entities)

    def _interrupt(self, signum: signal.Signals) -> None:
        again = " again, already stopping" if self._stopping.is_set() else ""
        self._output.message("WARNING", "launch", f"interrupted by {signal.Signals(signum).name}{again}")
        self.request_shutdown(f"interrupted by {signal.Signals(signum).name}", due_to_sigint=signum == signal.SIGINT)

    def _spawn(self, coroutine: asyncio.coroutines.Coroutine[None, None, None]) -> None:  # type: ignore[name-defined]
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)
        else:  # A bug: run() raises it when everything has been stopped.
            self.request_shutdown("internal error")

    async def _run_process(self, spec: ProcessSpec, action: object) -> None:
        process = ManagedProcess(spec, self._output)
        returncode = 0
        try:
            # Between the visit and this task's first step the launch may have been stopped.
            if not self._stopping.is_set():
                returncode = await self._until_exit(process, action)
        finally:
            self._events.put_nowait(ProcessExited(action, spec.name, process.pid, spec.command, returncode))

    async def _until_exit(self, process: ManagedProcess, action: object) -> int:
        spec = process.spec
        try:
            await process.start()
        except OSError as error:
            self._output.message("ERROR", spec.name, f"cannot start {spec.command[0]}: {error.strerror}")
            self.exit_code = 1
            return _CANNOT_START
        self._running.append(process)
        self._events.put_nowait(ProcessStarted(action, spec.name, process.pid, spec.command))
        if self._stopping.is_set():  # It was being started while the shutdown went round.
            self._spawn(process.shut_down())
        returncode = await process.wait()
        self._running.remove(process)
        if process.died(returncode):
            self.exit_code = 1
        return returncode

    async def _run_timer(self, period_s: float, actions: tuple[Entity, ...], cancel_on_shutdown: bool) -> None:
        if not cancel_on_shutdown:
            await asyncio.sleep(period_s)
        else:
            try:
                await asyncio.wait_for(self._stopping.wait(), period_s)
            except TimeoutError:
                pass
            else:
                actions = ()
        self._events.put_nowait(TimerFired(actions))
