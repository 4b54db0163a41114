"""The recorder without ROS: commands and messages in, episodes on disk and a status out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosbags.interfaces import Qos

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.answer import STATE_SCHEMA, Answer, Now
from robosteer_teleop.bag_writer import BagWriter
from robosteer_teleop.episode_record import Outcome, custom_data, episode_json
from robosteer_teleop.episodes import Command, Conditions, Effect, Limits, State, decide, watch
from robosteer_teleop.store import EpisodeStore, episode_name
from robosteer_teleop.streams import Problem, StreamWatch
from robosteer_teleop.survey import BagSurvey, verify_file
from robosteer_teleop.topics import Connection, RecordedTopic, definition

if TYPE_CHECKING:
    from robosteer_rig.rig import Rig


@dataclasses.dataclass
class _Current:
    """The episode that is being recorded, reviewed, or was discarded last."""

    episode: int
    directory: Path
    writer: BagWriter
    started_s: float
    problems: list[Problem] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    survey: BagSurvey | None = None


class RecordingSession:
    """One operator's session on one directory. Single-threaded."""

    def __init__(
        self,
        store: EpisodeStore,
        rig: Rig,
        topics: Sequence[RecordedTopic],
        *,
        limits: Limits,
        stream_watch: StreamWatch,
        offered_qos: Callable[[str], Sequence[Qos]] = lambda _: (),
    ) -> None:
        """Start idle.

        Args:
            store: where episodes go.
            rig: embedded in every episode.
            topics: what is recorded.
            limits: refusal rules.
            stream_watch: of the same topics.
            offered_qos: topic -> QoS of its publishers, asked at the start of each episode.
        """
        self._store = store
        self._rig = rig
        self._topics = {topic.name: topic for topic in topics}
        self._limits = limits
        self._watch = stream_watch
        self._offered_qos = offered_qos
        self._latched: dict[str, bytes] = {}
        self._current: _Current | None = None
        self._discarded: _Current | None = None
        self._totals = {"kept": 0, "discarded": 0}
        self.state = State.IDLE
        self.message = ""
        self._lines: list[str] = []

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
        if self.state is State.RECORDING and self._current is not None:
            try:
                self._current.writer.write(topic, receive_ns, data)
            except OSError as error:
                self._lines.append(self._fail(error))

    def flush(self, now: Now) -> None:
        """Hand what is old enough to the disk; call about 50 times a second."""
        if self.state is State.RECORDING and self._current is not None:
            try:
                self._current.writer.flush(now.wall_ns)
            except OSError as error:
                self._lines.append(self._fail(error))

    def tick(self, now: Now) -> list[str]:
        """Count rates and enforce the limits; call about 10 times a second.

        Returns:
            Lines for the operator about what happened by itself since the last call.
        """
        self._watch.tick(now.monotonic_s)
        decision = watch(self.state, self._conditions("", now), self._limits)
        if decision is not None and self._current is not None:
            self._current.notes.append(decision.reason)
            self._lines.append(self._guarded(lambda: self._close(now, decision.reason)).reason)
        lines, self._lines = self._lines, []
        return lines

    def command(self, command: Command, now: Now, *, instruction: str = "") -> Answer:
        """Do what the operator asks, or say why not.

        Args:
            command: what.
            now: this moment.
            instruction: of the episode; read at `start` only.
        """
        decision = decide(self.state, command, self._conditions(instruction, now), self._limits)
        if not decision.accepted or decision.effect is None:
            return self._answer(accepted=False, reason=decision.reason)
        effects: dict[Effect, Callable[[], Answer]] = {
            Effect.OPEN: lambda: self._open(instruction, now),
            Effect.CLOSE: lambda: self._close(now),
            Effect.COMMIT_SUCCESS: lambda: self._commit("success"),
            Effect.COMMIT_FAILURE: lambda: self._commit("failure"),
            Effect.CLOSE_AND_TRASH: lambda: self._close_and_trash(now),
            Effect.TRASH: self._trash,
            Effect.RESTORE: self._restore,
        }
        return self._guarded(effects[decision.effect])

    def ready(self, now: Now) -> bool:
        """Whether a start would find every needed stream, or is not to be expected at all."""
        return self.state is not State.IDLE or not self._watch.live_problems(now.monotonic_s)

    def shutdown(self, now: Now) -> Answer | None:
        """Close an unfinished episode as `recovered`; None when there was none."""
        if self.state is State.RECORDING:
            closed = self._guarded(lambda: self._close(now))
            if not closed.accepted:
                return closed
        if self.state is not State.REVIEW or self._current is None:
            return None
        self._current.notes.append("the recorder was stopped before the episode was labelled")
        return self._guarded(lambda: self._commit("recovered"))

    def status(self, now: Now) -> dict[str, Any]:
        """Return the content of the state topic."""
        current = self._current
        recording = self.state is State.RECORDING and current is not None
        problems = self._watch.episode_problems(now.monotonic_s) if recording else []
        problems = problems if self.state is not State.REVIEW or current is None else current.problems
        live = self._watch.live_problems(now.monotonic_s)
        counts = self._watch.counts()
        return {
            "schema": STATE_SCHEMA,
            "state": self.state.value,
            "episode": current.episode if current is not None else self._store.next_episode,
            "elapsed_s": round(now.monotonic_s - current.started_s, 2) if recording and current is not None else 0.0,
            **self._totals,
            "free_gib": round(self._store.free_bytes() / 2**30, 2),
            "ready": not live,
            "degraded": bool(problems),
            "problems": [str(problem) for problem in [*live, *problems]],
            "message": self.message,
            "topics": {
                name: {"count": counts[name], "rate_hz": round(self._watch.rate_hz(name), 1)} for name in self._topics
            },
        }

    def _conditions(self, instruction: str, now: Now) -> Conditions:
        current = self._current
        return Conditions(
            instruction=instruction,
            stream_problems=tuple(str(problem) for problem in self._watch.live_problems(now.monotonic_s)),
            free_bytes=self._store.free_bytes(),
            elapsed_s=now.monotonic_s - current.started_s if current is not None else 0.0,
            can_undo=self._discarded is not None,
        )

    def _guarded(self, action: Callable[[], Answer]) -> Answer:
        try:
            return action()
        except (OSError, RobosteerError) as error:
            return self._answer(accepted=False, reason=self._fail(error))

    def _open(self, instruction: str, now: Now) -> Answer:
        connections = [
            Connection(t.name, t.type, definition(t.type), tuple(self._offered_qos(t.name)))
            for t in self._topics.values()
        ]
        episode, directory = self._store.begin()
        data = custom_data(episode, instruction, self._rig)
        writer = BagWriter(directory, connections, custom_data=data)
        self._current = _Current(episode, directory, writer, now.monotonic_s)
        self._discarded = None
        self._watch.begin_episode(now.monotonic_s, now.wall_ns)
        self.state = State.RECORDING
        for topic, latched in self._latched.items():
            writer.write(topic, now.wall_ns, latched)
        return self._answer(episode=episode, path=directory)

    def _close(self, now: Now, reason: str = "") -> Answer:
        current = self._require_current()
        totals = current.writer.close()
        current.problems = self._watch.end_episode(now.monotonic_s, now.wall_ns)
        current.survey = verify_file(current.writer.path, totals)
        self.state = State.REVIEW
        found = [*([reason] if reason else []), *(str(problem) for problem in current.problems)]
        return self._answer(episode=current.episode, path=current.directory, reason="; ".join(found))

    def _commit(self, outcome: Outcome) -> Answer:
        current = self._require_current()
        path = self._store.commit(current.episode, self._content(current, outcome))
        self._current, self.state = None, State.IDLE
        self._totals["kept"] += 1
        return self._answer(episode=current.episode, path=path)

    def _close_and_trash(self, now: Now) -> Answer:
        self._close(now)
        return self._trash()

    def _trash(self) -> Answer:
        current = self._require_current()
        path = self._store.trash(current.episode, self._content(current, "discarded"))
        self._current, self._discarded, self.state = None, current, State.IDLE
        self._totals["discarded"] += 1
        return self._answer(episode=current.episode, path=path)

    def _restore(self) -> Answer:
        current, self._discarded = self._discarded, None
        if current is None:
            raise RuntimeError("undo was accepted without a discarded episode")
        path = self._store.restore(current.episode)
        self._current, self.state = current, State.REVIEW
        self._totals["discarded"] -= 1
        return self._answer(episode=current.episode, path=path)

    def _content(self, current: _Current, outcome: Outcome) -> dict[str, Any]:
        if current.survey is None:
            raise RuntimeError(f"episode {current.episode} was not closed before it was labelled")
        survey = dataclasses.replace(current.survey, path=current.directory / current.survey.path.name)
        problems = [problem.to_json() for problem in current.problems]
        return episode_json(survey, outcome, problems=problems, notes=current.notes)

    def _require_current(self) -> _Current:
        if self._current is None:
            raise RuntimeError(f"state {self.state} without an episode")
        return self._current

    def _fail(self, error: OSError | RobosteerError) -> str:
        """Give up what failed, without losing what is on the disk, and return one line about it.

        A closed episode stays in review, so that it can be kept once there is space. An open one ends; its prefix is
        recovered when the recorder starts again.
        """
        current = self._current
        found = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if current is None:
            self.message = f"recorder: found {found}, expected a writable disk; free some space and start again"
        elif current.survey is not None:
            self.state = State.REVIEW
            self.message = (
                f"episode {episode_name(current.episode)}: found {found}, expected to write it; it is still in review: "
                "free some space and repeat"
            )
        else:
            current.writer.abandon()
            self._current, self.state = None, State.IDLE
            self.message = (
                f"episode {episode_name(current.episode)}: found {found}, expected to write it; what was written "
                f"stays in {current.directory} and is recovered when the recorder starts again; free some space"
            )
        return self.message

    def _answer(
        self, *, accepted: bool = True, episode: int | None = None, path: Path | None = None, reason: str = ""
    ) -> Answer:
        self.message = reason
        return Answer(accepted, self.state, episode, path, reason)
