"""What selection and analysis read: the rows of one cache, or of several caches of one checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_rig.errors import RobosteerError
from robosteer_training.files import json_digest
from robosteer_training.heads.cache import ActivationCache


class StackedLayers:
    """Several (L, F_i, N, H) arrays read as one (L, F, N, H), one layer at a time."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = list(parts)
        layers, _, heads, dim = self._parts[0].shape
        self.shape = (layers, sum(part.shape[1] for part in self._parts), heads, dim)

    def __getitem__(self, layer: int) -> np.ndarray:
        return np.concatenate([part[layer] for part in self._parts])


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows of frames with their activations (F rows).

    Attributes:
        caches: where they come from, in this order.
        actions: (F, A) float32, normalised.
        episode_index: (F,) distinct over all caches.
        usable: (F,) bool.
        tasks: (F,) the instruction of each row's episode, "" where the cache does not know.
        outcomes: (F,) success, failure, ... or "".
    """

    caches: tuple[ActivationCache, ...]
    actions: np.ndarray
    episode_index: np.ndarray
    usable: np.ndarray
    tasks: np.ndarray
    outcomes: np.ndarray

    @classmethod
    def of(cls, *caches: ActivationCache) -> Source:
        """Join caches.

        Raises:
            RobosteerError: caches of different checkpoints or settings.
        """
        first = caches[0]
        for cache in caches[1:]:
            for name in ("checkpoint_digest", "settings", "action_dim", "model"):
                if cache.meta[name] != first.meta[name]:
                    raise RobosteerError(
                        f"caches: {name} of {cache.path} differs from that of {first.path}, expected the same; "
                        "make both with one checkpoint and the same options"
                    )
        offsets = np.cumsum([0] + [int(c.episode_index.max()) + 1 for c in caches])
        return cls(
            caches=caches,
            actions=np.concatenate([c.actions for c in caches]),
            episode_index=np.concatenate([c.episode_index + o for c, o in zip(caches, offsets, strict=False)]),
            usable=np.concatenate([c.usable for c in caches]),
            tasks=np.concatenate([_labels(c, "instruction") for c in caches]),
            outcomes=np.concatenate([_labels(c, "outcome") for c in caches]),
        )

    @property
    def config(self) -> ModelConfig:
        """The model."""
        return self.caches[0].config

    @property
    def rows(self) -> np.ndarray:
        """Usable rows."""
        return np.flatnonzero(self.usable)

    def at(self, position: str) -> Any:
        """(L, F, N, H) activations of one token position.

        Raises:
            RobosteerError: a cache lacks it.
        """
        parts = [cache.at(position) for cache in self.caches]
        return parts[0] if len(parts) == 1 else StackedLayers(parts)

    @property
    def key(self) -> str:
        """Identifies the content."""
        keys = [cache.meta["key"] for cache in self.caches]
        return keys[0] if len(keys) == 1 else json_digest(keys)

    def task_rows(self) -> dict[str, np.ndarray]:
        """Usable rows by instruction, in the order of first appearance."""
        names = list(dict.fromkeys(str(name) for name in self.tasks))
        return {name: np.flatnonzero((self.tasks == name) & self.usable) for name in names}

    def of_tasks(self, names: Sequence[str]) -> Source:
        """The same rows, but only those of some tasks usable; all stay so where it knows none of them."""
        mine = np.isin(self.tasks, list(names))
        return dataclasses.replace(self, usable=self.usable & mine) if mine.any() else self

    def provenance(self, rows: np.ndarray) -> dict[str, Any]:
        """Where these rows come from."""
        digests = [cache.meta["dataset_digest"] for cache in self.caches]
        return {
            "model_type": self.config.model_type,
            "checkpoint_digest": self.caches[0].meta["checkpoint_digest"],
            "dataset_digest": digests[0] if len(digests) == 1 else json_digest(digests),
            "dataset_digests": digests,
            "tasks": sorted({str(name) for name in self.tasks[rows]} - {""}),
            "frames": len(rows),
            "episodes": len(np.unique(self.episode_index[rows])),
        }


def _labels(cache: ActivationCache, name: str) -> np.ndarray:
    if not cache.episodes:
        return np.full(cache.rows, "", object)
    return np.array([episode[name] for episode in cache.episodes], object)[cache.episode_index]
