"""Where a closed episode goes: kept, discarded, brought back; and how many there were."""

from __future__ import annotations

from pathlib import Path

from robosteer_teleop.episode_record import Outcome
from robosteer_teleop.store import EpisodeStore
from robosteer_teleop.take import Take


class Filing:
    """Moves closed takes between review, the directory of episodes and the trash. Each step happens wholly or not.

    Attributes:
        kept: the episode kept last, until it is deleted.
        discarded: the episode discarded last, until it is brought back or another one begins.
        totals: episodes kept and discarded since the start.
        longest_bytes: of the episodes kept so far.
    """

    def __init__(self, store: EpisodeStore) -> None:
        """Start with nothing filed."""
        self._store = store
        self.kept: Take | None = None
        self.discarded: Take | None = None
        self.totals = {"kept": 0, "discarded": 0}
        self.longest_bytes = 0

    def keep(self, take: Take, outcome: Outcome) -> Path:
        """Publish a take as an episode."""
        path = self._store.commit(take.episode, take.content(outcome))
        self.longest_bytes = max(self.longest_bytes, take.writer.bytes_written)
        self.kept = take
        self.totals["kept"] += 1
        return path

    def trash(self, take: Take) -> Path:
        """Move a take under review to the trash."""
        path = self._store.trash(take.episode, take.content("discarded"))
        self.discarded = take
        self.totals["discarded"] += 1
        return path

    def drop(self, take: Take) -> Path:
        """The same for a take that never began; it is not counted and cannot be brought back."""
        path = self._store.trash(take.episode, take.content("discarded"))
        self.discarded = None
        return path

    def trash_kept(self) -> tuple[Take, Path]:
        """Move the episode kept last to the trash."""
        if self.kept is None:
            raise RuntimeError("a deletion was accepted without a kept episode")
        take, path = self.kept, self._store.delete(self.kept.episode)
        self.kept, self.discarded = None, take
        self.totals["kept"] -= 1
        self.totals["discarded"] += 1
        return take, path

    def restore(self) -> tuple[Take, Path]:
        """Bring the episode discarded last back to review."""
        if self.discarded is None:
            raise RuntimeError("undo was accepted without a discarded episode")
        take, path = self.discarded, self._store.restore(self.discarded.episode)
        self.discarded = None
        self.totals["discarded"] -= 1
        return take, path
