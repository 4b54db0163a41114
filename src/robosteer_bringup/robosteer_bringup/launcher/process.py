"""One running process: its output, its signals and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process

from robosteer_bringup.launcher.context import ProcessSpec
from robosteer_bringup.launcher.output import LineSplitter, Output

_WHEELS_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"
_DRAIN_S = 1.0  # After a process has ended, its last lines are already in the pipe.
_CHUNK = 65536


class ManagedProcess:
    """A process in a group of its own, so that Ctrl-C in the terminal reaches it through the launcher only.

    Attributes:
        spec: What runs.
        signals: The signals sent so far, in order.
    """

    def __init__(self, spec: ProcessSpec, output: Output) -> None:
        self.spec = spec
        self.signals: list[signal.Signals] = []
        self._output = output
        self._process: Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return 0 if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the program.

        Raises:
            OSError: if it cannot be started.
        """
        # Pipes of our own: with asyncio's, the end of the process is reported only when the last heir of its
        # streams has closed them, so a forgotten grandchild would hold the launch up for ever.
        pipes = [os.pipe(), os.pipe()]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                cwd=self.spec.cwd,
                env=_child_environment(self.spec),
                stdin=DEVNULL,
                stdout=pipes[0][1],
                stderr=pipes[1][1],
                process_group=0,
            )
        except OSError:
            for read_end, _ in pipes:
                os.close(read_end)
            raise
        finally:
            for _, write_end in pipes:
                os.close(write_end)
        visible = (self.spec.output != "log", True)
        self._readers = [
            asyncio.create_task(self._forward(read_end, visible=shown))
            for (read_end, _), shown in zip(pipes, visible, strict=True)
        ]
        self._output.message("INFO", self.spec.name, f"process started with pid [{self.pid}]")

    async def wait(self) -> int:
        """Forward the output until the process ends; return its exit code (negative: ended by that signal)."""
        if self._process is None:
            raise RuntimeError("wait() before start()")
        returncode = await self._process.wait()
        self._ended.set()
        self._kill_group(signal.SIGKILL)  # Whatever the process left behind must not keep running.
        _, late = await asyncio.wait(self._readers, timeout=_DRAIN_S)
        for reader in late:  # A daemon that left the group still holds the pipe.
            reader.cancel()
        self._report(returncode)
        return returncode

    async def shut_down(self) -> None:
        """Ask for the end with SIGINT, then SIGTERM, then SIGKILL, waiting in between."""
        self._send(signal.SIGINT)
        steps = [(self.spec.sigterm_timeout_s, signal.SIGTERM), (self.spec.sigkill_timeout_s, signal.SIGKILL)]
        for seconds, stronger in steps:
            try:
                await asyncio.wait_for(self._ended.wait(), seconds)
            except TimeoutError:
                weaker = self.signals[-1].name if self.signals else "no signal"
                text = f"still running {seconds:g} s after {weaker}, sending {stronger.name}"
                self._output.message("ERROR", self.spec.name, text)
                self._send(stronger)
            else:
                return

    def kill(self) -> None:
        """End the whole group at once."""
        self._send(signal.SIGKILL)

    def died(self, returncode: int) -> bool:
        """Return whether this end is a failure: not exit code 0, and not the end by SIGINT or SIGTERM we asked for."""
        asked = {-signum for signum in self.signals if signum != signal.SIGKILL}
        return returncode != 0 and returncode not in asked

    def _send(self, signum: signal.Signals) -> None:
        if self._process is None or self._ended.is_set():
            return
        self.signals.append(signum)
        if signum == signal.SIGINT:
            self._output.message("INFO", self.spec.name, "sending signal 'SIGINT'")
        self._kill_group(signum)

    def _kill_group(self, signum: signal.Signals) -> None:
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return  # The whole group is gone already, which is what the signal was for.

    async def _forward(self, read_end: int, *, visible: bool) -> None:
        stream = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(stream)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(read_end, "rb"))
        lines = LineSplitter()
        try:
            while data := await stream.read(_CHUNK):
                for line in lines.feed(data):
                    self._output.process_line(self.spec.name, line, visible=visible)
        finally:
            transport.close()
            for line in lines.finish():
                self._output.process_line(self.spec.name, line, visible=visible)

    def _report(self, returncode: int) -> None:
        if not self.died(returncode):
            self._output.message("INFO", self.spec.name, f"process has finished cleanly [pid {self.pid}]")
            return
        command = " ".join(self.spec.command)
        text = f"process has died [pid {self.pid}, exit code {returncode}, cmd '{command}']"
        self._output.message("ERROR", self.spec.name, text)


def _child_environment(spec: ProcessSpec) -> dict[str, str]:
    # A pipe makes Python buffer its output in blocks; a launch wants each line when it is printed.
    environment = {"PYTHONUNBUFFERED": "1", **spec.environment}
    if spec.command[0] != sys.executable:
        # Another Python with ROS wheels must set its own library path up, which this inherited mark would prevent.
        environment.pop(_WHEELS_GUARD, None)
    return environment
