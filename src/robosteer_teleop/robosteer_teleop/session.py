"""The recorder without ROS: commands and messages in, episodes on disk and a status out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosbags.interfaces import Qos

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.answer import Answer, Now
from robosteer_teleop.bag_writer import BagWriter
from robosteer_teleop.episode_record import Outcome, custom_data
from robosteer_teleop.episodes import (
    BETWEEN,
    Command,
    Conditions,
    Decision,
    Effect,
    Limits,
    State,
    decide,
    watch,
)
from robosteer_teleop.filing import Filing
from robosteer_teleop.session_file import SessionFile, read_session, why_not_resume, write_session
from robosteer_teleop.status import describe, failure_line
from robosteer_teleop.store import EpisodeStore
from robosteer_teleop.streams import StreamWatch
from robosteer_teleop.survey import verify_file
from robosteer_teleop.take import LABELS, NOTES, Take
from robosteer_teleop.teleop_record import SESSION_TOPIC, STATUS_TOPIC, TeleopRecord
from robosteer_teleop.topics import Connection, RecordedTopic, definition

if TYPE_CHECKING:
    from robosteer_rig.rig import Rig

_OPEN_STATES = (State.COUNTDOWN, State.RECORDING)


class RecordingSession:
    """One operator's session on one directory. Single-threaded.

    Attributes:
        state: where the episode is.
        message: what the operator should know, one line.
        announce: called when the state is worth publishing in the middle of a command.
    """

    def __init__(
        self,
        store: EpisodeStore,
        rig: Rig,
        topics: Sequence[RecordedTopic],
        *,
        limits: Limits,
        stream_watch: StreamWatch,
        offered_qos: Callable[[str], Sequence[Qos]] = lambda _: (),
        allow_change: bool = False,
        hardware: Mapping[str, Any] | None = None,
    ) -> None:
        """Start idle.

        Args:
            store: where episodes go.
            rig: embedded in every episode.
            topics: what is recorded.
            limits: refusal rules.
            stream_watch: of the same topics.
            offered_qos: topic -> QoS of its publishers, asked at the start of each episode.
            allow_change: another task or rig than the directory's begins a new session instead of being refused.
            hardware: serial numbers and calibration, for episode.json.

        Raises:
            RobosteerError: for a damaged session.json.
        """
        self._store, self._rig, self._limits, self._watch = store, rig, limits, stream_watch
        self._topics = {topic.name: topic for topic in topics}
        self._offered_qos = offered_qos
        self._allow_change, self._hardware = allow_change, hardware
        self._file = read_session(store.directory)
        self._compared: tuple[SessionFile | None, str, str] = (None, "", "")
        self._teleop = TeleopRecord()
        self._latched: dict[str, bytes] = {}
        self._take: Take | None = None
        self._filing = Filing(store)
        self._since_s = 0.0
        self._lines: list[str] = []
        self.instruction = ""
        self.state = State.IDLE
        self.message = ""
        self.announce: Callable[[], None] = lambda: None

    # Messages and time --------------------------------------------------------------------------------------------

    def receive(self, topic: str, receive_ns: int, data: bytes, now: Now) -> None:
        """Take one serialized message.

        Args:
            topic: one of the session's topics.
            receive_ns: wall-clock time of arrival, ns.
            data: CDR.
            now: this moment.
        """
        self._watch.receive(topic, receive_ns, data, now.monotonic_s)
        if self._topics[topic].latched:
            self._latched[topic] = data
        if topic in (STATUS_TOPIC, SESSION_TOPIC):
            self._teleop.receive(topic, data)
        if self.state in _OPEN_STATES and self._take is not None:
            try:
                self._take.writer.write(topic, receive_ns, data)
            except OSError as error:
                self._lines.append(self._fail(error))

    def flush(self, now: Now) -> None:
        """Hand what is old enough to the disk; call about 50 times a second."""
        if self.state in _OPEN_STATES and self._take is not None:
            try:
                self._take.writer.flush(now.wall_ns)
            except OSError as error:
                self._lines.append(self._fail(error))

    def tick(self, now: Now) -> list[str]:
        """Count rates, let the countdown run and enforce the limits; call about 10 times a second.

        Returns:
            Lines for the operator about what happened by itself since the last call.
        """
        self._watch.tick(now.monotonic_s)
        decision = watch(self.state, self._conditions(now), self._limits)
        if decision is not None:
            answer = self._apply(decision, now)
            if decision.reason:
                self.message = answer.reason or decision.reason
                self._lines.append(self.message)
        lines, self._lines = self._lines, []
        return lines

    def command(self, command: Command, now: Now, *, instruction: str = "") -> Answer:
        """Do what the operator asks, or say why not.

        Args:
            command: what.
            now: this moment.
            instruction: of the next episode, where it is asked for.
        """
        self.instruction = instruction or self.instruction
        decision = decide(self.state, command, self._conditions(now), self._limits)
        if decision.warns and self._take is not None:
            self._take.warned = True
        if not decision.accepted:
            return self._answer(accepted=False, reason=decision.reason)
        if decision.effect in (Effect.LABEL, Effect.NOTE):
            return self._annotate(command)
        return self._apply(decision, now)

    def ready(self, now: Now) -> bool:
        """Whether a start would find every needed stream, or is not to be expected at all."""
        return self.state not in BETWEEN or not self._watch.live_problems(now.monotonic_s)

    def shutdown(self, now: Now) -> Answer | None:
        """Close an unfinished episode as `recovered`; None when there was none."""
        if self.state is State.COUNTDOWN:
            self._guarded(lambda: self._drop(now))
        if self.state is State.RECORDING:
            closed = self._guarded(lambda: self._close(now))
            if not closed.accepted:
                return closed
        if self.state is not State.REVIEW or self._take is None:
            return None
        self._take.notes.append("the recorder was stopped before the episode was labelled")
        return self._guarded(lambda: self._commit("recovered"))

    def status(self, now: Now) -> dict[str, Any]:
        """Return the content of the state topic."""
        take = self._take
        recording = self.state is State.RECORDING and take is not None
        problems = self._watch.episode_problems(now.monotonic_s) if recording else []
        problems = take.problems if self.state is State.REVIEW and take is not None else problems
        elapsed_s = now.monotonic_s - self._since_s
        return {
            "state": self.state.value,
            "episode": take.episode if take is not None else self._store.next_episode,
            "elapsed_s": round(elapsed_s, 2) if recording else 0.0,
            "countdown_s": round(self._limits.countdown_s - elapsed_s, 1) if self.state is State.COUNTDOWN else 0.0,
            "label": take.label if take is not None else "success",
            "note": NOTES[take.note] if take is not None else "",
            **self._filing.totals,
            **describe(
                self._watch, self._topics.values(), problems, now.monotonic_s, self._store.free_bytes(), self._limits
            ),
            "instruction": self.instruction,
            "message": self.message,
        }

    # What the decisions rest on -----------------------------------------------------------------------------------

    def _conditions(self, now: Now) -> Conditions:
        take = self._take
        return Conditions(
            instruction=self.instruction,
            stream_problems=tuple(str(problem) for problem in self._watch.live_problems(now.monotonic_s)),
            session_problem=self._session_problem(),
            free_bytes=self._store.free_bytes(),
            needed_bytes=3 * self._filing.longest_bytes,
            elapsed_s=now.monotonic_s - self._since_s,
            is_open=take is not None,
            can_undo=self._filing.discarded is not None,
            can_delete=self._filing.kept is not None,
            degraded=tuple(str(problem) for problem in take.problems) if take is not None else (),
            warned=take.warned if take is not None else False,
        )

    def _session_problem(self) -> str:
        if self._file is None or self._allow_change or not self.instruction:
            return ""
        if self._compared[:2] != (self._file, self.instruction):  # reading a rig takes too long for every tick
            self._compared = (self._file, self.instruction, why_not_resume(self._file, self.instruction, self._rig))
        return self._compared[2]

    # Effects ------------------------------------------------------------------------------------------------------

    def _apply(self, decision: Decision, now: Now) -> Answer:
        effects: dict[Effect, Callable[[], Answer]] = {
            Effect.NOTHING: lambda: self._enter(decision.state, now),
            Effect.COUNT: lambda: self._enter(State.COUNTDOWN, now),
            Effect.OPEN: lambda: self._open(decision.state, now),
            Effect.MARK_START: lambda: self._mark_start(now),
            Effect.DROP: lambda: self._drop(now),
            Effect.CLOSE: lambda: self._close(now, decision.reason),
            Effect.COMMIT: lambda: self._commit(),
            Effect.COMMIT_FAILURE: lambda: self._commit("failure"),
            Effect.CLOSE_AND_TRASH: lambda: self._close(now) and self._trash(),
            Effect.TRASH: self._trash,
            Effect.TRASH_LAST: lambda: self._filed(*self._filing.trash_kept()),
            Effect.RESTORE: self._restore,
        }
        return self._guarded(effects[decision.effect or Effect.NOTHING])

    def _guarded(self, action: Callable[[], Answer]) -> Answer:
        try:
            return action()
        except (OSError, RobosteerError) as error:
            return self._answer(accepted=False, reason=self._fail(error))

    def _enter(self, state: State, now: Now) -> Answer:
        if state not in BETWEEN:
            self._since_s = now.monotonic_s
        self.state = state
        return Answer(True, state)

    def _open(self, state: State, now: Now) -> Answer:
        if self._file is None or why_not_resume(self._file, self.instruction, self._rig):
            self._file = SessionFile.new(self.instruction, self._rig)
            write_session(self._store.directory, self._file)
        connections = [
            Connection(t.name, t.type, definition(t.type), tuple(self._offered_qos(t.name)))
            for t in self._topics.values()
        ]
        episode, directory = self._store.begin()
        data = custom_data(episode, self.instruction, self._rig, self._file.session, self._hardware)
        self._take = Take(episode, directory, BagWriter(directory, connections, custom_data=data))
        self._filing.discarded = None
        self._watch.begin_episode(now.monotonic_s, now.wall_ns)
        self._teleop.begin()
        for topic, latched in self._latched.items():
            self._take.writer.write(topic, now.wall_ns, latched)
        return self._mark_start(now) if state is State.RECORDING else self._answer(episode=episode, path=directory)

    def _mark_start(self, now: Now) -> Answer:
        take = self._require_take()
        take.start_ns = now.wall_ns
        self._enter(State.RECORDING, now)
        return self._answer(episode=take.episode, path=take.directory)

    def _drop(self, now: Now) -> Answer:
        """A cancelled countdown; what was written already goes to the trash and does not count."""
        if self._take is not None:
            self._close(now)
            self._filing.drop(self._take)
            self._take = None
        return self._enter(State.READY, now)

    def _close(self, now: Now, reason: str = "") -> Answer:
        take = self._require_take()
        totals = take.writer.close()
        take.problems = self._watch.end_episode(now.monotonic_s, now.wall_ns)
        take.teleop = self._teleop.content()
        take.survey = verify_file(take.writer.path, totals)
        take.notes += [reason] if reason else []
        self.state = State.REVIEW
        found = [*([reason] if reason else []), *(str(problem) for problem in take.problems)]
        return self._answer(episode=take.episode, path=take.directory, reason="; ".join(found))

    def _annotate(self, command: Command) -> Answer:
        take = self._require_take()
        if command in LABELS:
            take.label = LABELS[command]
        else:
            take.note = (take.note + (1 if command is Command.NEXT_NOTE else -1)) % len(NOTES)
        return self._answer(episode=take.episode, path=take.directory)

    def _commit(self, outcome: Outcome | None = None) -> Answer:
        take = self._require_take()
        self.state = State.SAVING
        self.announce()
        return self._filed(take, self._filing.keep(take, outcome or take.label))

    def _trash(self) -> Answer:
        take = self._require_take()
        return self._filed(take, self._filing.trash(take))

    def _filed(self, take: Take, path: Path) -> Answer:
        self._take, self.state = None, State.READY
        return self._answer(episode=take.episode, path=path)

    def _restore(self) -> Answer:
        self._take, path = self._filing.restore()
        self.state = State.REVIEW
        return self._answer(episode=self._take.episode, path=path)

    def _require_take(self) -> Take:
        if self._take is None:
            raise RuntimeError(f"state {self.state} without an episode")
        return self._take

    def _fail(self, error: OSError | RobosteerError) -> str:
        """Give up what failed, without losing what is on the disk, and return one line about it.

        A closed episode stays in review, so that it can be kept once there is space. An open one ends; its prefix is
        recovered when the recorder starts again.
        """
        take = self._take
        self.message = failure_line(take, error)
        if take is not None and take.survey is not None:
            self.state = State.REVIEW
        else:
            if take is not None:
                take.writer.abandon()
            self._take, self.state = None, State.READY
        return self.message

    def _answer(self, *, accepted: bool = True, reason: str = "", **found: Any) -> Answer:
        self.message = reason
        return Answer(accepted, self.state, reason=reason, **found)
