"""The directory of episodes: numbering, partial recordings, trash, journal.

    demos/000000/{metadata.yaml, 000000.mcap, episode.json}   kept episodes; complete whenever they are visible
    demos/partial/000001/                                     being recorded or reviewed; recovered after a crash
    demos/trash/000002/                                       discarded; undo brings the last one back
    demos/session.jsonl                                       journal, one line per event

An episode appears under its number by one rename, after its files and directories were synchronised.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.episode_record import episode_json, write_episode_json
from robosteer_teleop.recovery import find_mcap, recover_bag
from robosteer_teleop.survey import BagSurvey, survey_file
from robosteer_teleop.write_behind import sync_directory

JOURNAL = "session.jsonl"
_NUMBER = re.compile(r"(\d{6,})(\..*)?")  # with the suffixes of the trash


@dataclasses.dataclass(frozen=True)
class Recovered:
    """What became of a partial recording found at the start.

    Attributes:
        episode: its number.
        path: where it is now.
        text: one phrase for the operator.
    """

    episode: int
    path: Path
    text: str


def episode_name(episode: int) -> str:
    """Directory and file name of an episode."""
    return f"{episode:06d}"


class EpisodeStore:
    """One directory of episodes, owned by one process at a time."""

    def __init__(self, directory: Path) -> None:
        """Open or create the directory and lock it.

        Raises:
            RobosteerError: when it cannot be written, or another recorder uses it.
        """
        self.directory = directory
        self.partial = directory / "partial"
        self.trash_directory = directory / "trash"
        try:
            for path in (directory, self.partial, self.trash_directory):
                path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RobosteerError(
                f"episode directory {directory}: found {error.strerror}, expected a writable directory; "
                "set the parameter 'directory'"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise RobosteerError(
                f"episode directory {directory}: found another recorder using it, expected none; stop that one first"
            ) from None
        self._next = self._first_free()

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def _first_free(self) -> int:
        names = [path.name for d in (self.directory, self.partial, self.trash_directory) for path in d.iterdir()]
        used = [int(match[1]) for name in names if (match := _NUMBER.fullmatch(name))]
        used += [entry["episode"] for entry in self.journal() if isinstance(entry.get("episode"), int)]
        return max(used, default=-1) + 1

    @property
    def next_episode(self) -> int:
        """The number that the next episode gets; numbers are never used twice."""
        return self._next

    def episodes(self) -> list[Path]:
        """Directories of the kept episodes, in order."""
        return sorted(p for p in self.directory.iterdir() if p.is_dir() and p.name.isdecimal())

    def free_bytes(self) -> int:
        """Free space on the directory's disk."""
        return shutil.disk_usage(self.directory).free

    def begin(self) -> tuple[int, Path]:
        """Take the next number and return it with the directory to record into (not created yet)."""
        episode = self._next
        self.log("start", episode)
        self._next += 1
        return episode, self.partial / episode_name(episode)

    def commit(self, episode: int, content: dict[str, Any]) -> Path:
        """Make a closed recording visible as an episode.

        Args:
            episode: its number.
            content: of episode.json.

        Returns:
            The episode's directory.
        """
        return self._publish(self.partial / episode_name(episode), self.directory, content, "keep")

    def trash(self, episode: int, content: dict[str, Any]) -> Path:
        """Move a closed recording to the trash."""
        return self._publish(self.partial / episode_name(episode), self.trash_directory, content, "discard")

    def delete(self, episode: int) -> Path:
        """Move a kept episode to the trash."""
        path = self._move(self.directory / episode_name(episode), self.trash_directory / episode_name(episode))
        self.log("delete", episode)
        return path

    def restore(self, episode: int) -> Path:
        """Bring a discarded recording back to where it is reviewed."""
        path = self._move(self.trash_directory / episode_name(episode), self.partial / episode_name(episode))
        self.log("undo", episode)
        return path

    def _publish(self, source: Path, parent: Path, content: dict[str, Any], event: str) -> Path:
        write_episode_json(source, content)
        target = self._move(source, parent / source.name)
        # After the rename the episode is safe. A journal line that a full disk refuses must not undo that: the
        # directories tell the same.
        with contextlib.suppress(OSError):
            self.log(event, int(source.name), outcome=content["outcome"])
        return target

    def _move(self, source: Path, target: Path) -> Path:
        sync_directory(source)
        source.rename(target)
        sync_directory(target.parent)
        sync_directory(source.parent)
        return target

    def journal(self) -> list[dict[str, Any]]:
        """Return the events so far; a line torn by a crash is left out."""
        path = self.directory / JOURNAL
        entries = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # torn by a crash; the directories say the same
            if isinstance(entry, dict):
                entries.append(entry)
        return entries

    def log(self, event: str, episode: int, **details: object) -> None:
        """Append a line to the journal and synchronise it."""
        line = json.dumps({"time_ns": time.time_ns(), "event": event, "episode": episode, **details})
        with (self.directory / JOURNAL).open("ab+") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def recover_partials(self) -> list[Recovered]:
        """Turn every recording that was cut short into an episode with outcome `recovered`.

        What was torn goes to the trash beside it; a recording without any message goes there whole. A recording that
        cannot be recovered now (disk full) stays and is tried again at the next start.
        """
        scratch = self.partial / "recovering"
        if scratch.exists():
            shutil.rmtree(scratch)  # a copy of ours, cut short itself; its source is still there
        results = []
        for source in sorted(p for p in self.partial.iterdir() if p.name.isdecimal()):
            try:
                results.append(self._recover(source, scratch))
            except OSError as error:
                shutil.rmtree(scratch, ignore_errors=True)
                text = f"not recovered yet: found {error.strerror or error}; it stays and is tried at the next start"
                results.append(Recovered(int(source.name), source, text))
        if scratch.exists():
            scratch.rmdir()
        return results

    def _recover(self, source: Path, scratch: Path) -> Recovered:
        episode, target = int(source.name), self.directory / source.name
        if target.exists():  # the crash came between the rename and this
            return self._set_aside(source, "damaged", "already recovered; the torn original is in the trash")
        try:
            survey = survey_file(find_mcap(source))
        except RobosteerError:
            return self._set_aside(source, "empty", "held no bag; it is in the trash")
        if not survey.count:
            return self._set_aside(source, "empty", "held no message; it is in the trash")
        if survey.damage.complete and not survey.damage.bad_chunks and (source / "metadata.yaml").exists():
            notes = ["the recorder ended before the episode was labelled"]
            path = self._publish(source, self.directory, episode_json(survey, "recovered", notes=notes), "recover")
            return Recovered(episode, path, f"recovered whole: {_size(survey)}")
        new, damage = recover_bag(survey.path, scratch / source.name)
        content = episode_json(new, "recovered", notes=[f"recovered after a crash: {damage}"])
        path = self._publish(scratch / source.name, self.directory, content, "recover")
        self._set_aside(source, "damaged", "")
        return Recovered(episode, path, f"recovered {_size(new)} ({damage})")

    def _set_aside(self, source: Path, suffix: str, text: str) -> Recovered:
        target = self._move(source, self.trash_directory / f"{source.name}.{suffix}")
        self.log("set aside", int(source.name), suffix=suffix)
        return Recovered(int(source.name), target, text)


def _size(survey: BagSurvey) -> str:
    return f"{survey.count} messages, {survey.duration_s:.2f} s"
