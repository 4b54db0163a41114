"""`HeadSelection`: the result of every selection method, saved as one JSON that finetuning takes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_rig.errors import RobosteerError
from robosteer_training.files import write_json
from robosteer_training.heads.knn import rank_heads

SCHEMA = "robosteer.head_selection/1"
MADE_BY = "`robosteer heads select`"
PAPER_HEADS, PAPER_TOTAL = 20, 144


@dataclasses.dataclass(frozen=True)
class HeadSelection:
    """Which heads to tune, and why.

    Attributes:
        method: how the scores were made, for example "knn".
        scores: (L, N) float64; lower is better.
        heads: the chosen heads, best first, as (layer, head).
        k: number of neighbours (k-NN only).
        settings: everything that was chosen by hand (metric, ks, token position, noise seed, flow time...).
        k_search: one row {"k", "subset_mse"} per k tried.
        provenance: digests of the checkpoint and the dataset, counts, versions.
        details: what a method found besides the scores, by name.
    """

    method: str
    scores: np.ndarray
    heads: list[tuple[int, int]]
    k: int | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    k_search: list[dict[str, float]] = dataclasses.field(default_factory=list)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        layers, heads = self.scores.shape
        bad = [h for h in self.heads if not (0 <= h[0] < layers and 0 <= h[1] < heads)]
        if bad or len(set(self.heads)) != len(self.heads):
            raise RobosteerError(
                f"heads: found {bad or 'a repeated head'}, expected distinct heads of a {layers} x {heads} model"
            )

    @property
    def m(self) -> int:
        """Number of chosen heads."""
        return len(self.heads)

    @property
    def ranks(self) -> np.ndarray:
        """(L, N) int: 0 for the best score; ties by (layer, head)."""
        ranks = np.empty(self.scores.shape, int)
        for rank, (layer, head) in enumerate(rank_heads(self.scores)):
            ranks[layer, head] = rank
        return ranks

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` is its inverse."""
        return {
            "schema": SCHEMA,
            "method": self.method,
            "lower_is_better": True,
            "m": self.m,
            "k": self.k,
            "heads": [list(h) for h in self.heads],
            "scores": self.scores.tolist(),
            "ranks": self.ranks.tolist(),
            "k_search": self.k_search,
            "settings": self.settings,
            "provenance": self.provenance,
            "details": self.details,
        }

    @classmethod
    def from_json(cls, data: Any, source: str = "head selection") -> HeadSelection:
        """Rebuild a selection.

        Raises:
            RobosteerError: another schema, or fields that are missing or malformed.
        """
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        if found != SCHEMA:
            raise RobosteerError(f"{source}: found schema {found!r}, expected {SCHEMA!r}")
        try:
            scores = np.array(data["scores"], np.float64)
            heads = [(int(layer), int(head)) for layer, head in data["heads"]]
            if scores.ndim != 2:
                raise ValueError(f"scores of shape {scores.shape}")
            if not np.isfinite(scores).all():
                raise ValueError("a score that is no number")
            for name in ("settings", "provenance", "details"):
                if not isinstance(data.get(name, {}), dict):
                    raise TypeError(f"{name}: found {type(data[name]).__name__}, expected an object")
            known = (data["method"], scores, heads, data["k"], data["settings"], data["k_search"], data["provenance"])
            return cls(*known, data.get("details", {}))
        except (KeyError, TypeError, ValueError) as error:
            raise RobosteerError(
                f"{source}: malformed ({error}); make it again with `robosteer heads select`"
            ) from error

    def save(self, path: Path) -> None:
        """Write the JSON in one piece."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> HeadSelection:
        """Read a selection file.

        Raises:
            RobosteerError: no such file, no JSON, another schema.
        """
        try:
            data = json.loads(Path(path).read_text())
        except OSError as error:
            raise RobosteerError(
                f"head selection: cannot read {path} ({error.strerror}), expected a file of {MADE_BY}"
            ) from error
        except ValueError as error:
            raise RobosteerError(
                f"head selection: {path} is not JSON ({error}), expected a file of {MADE_BY}"
            ) from error
        return cls.from_json(data, str(path))

    def check_model(self, config: ModelConfig, checkpoint_digest: str) -> None:
        """Refuse a selection that was made on another model.

        Raises:
            RobosteerError: other numbers of layers and heads, or other weights.
        """
        shape = (config.paligemma.depth, config.paligemma.num_heads)
        if self.scores.shape != shape:
            raise RobosteerError(
                f"head selection: found {self.scores.shape} layers and heads, expected {shape}; "
                "select the heads on this checkpoint"
            )
        theirs = self.provenance.get("checkpoint_digest")
        if theirs != checkpoint_digest:
            raise RobosteerError(
                f"head selection: made on checkpoint {str(theirs)[:12]}, expected {checkpoint_digest[:12]}; "
                "select the heads on this checkpoint"
            )


def default_m(config: ModelConfig) -> int:
    """The paper's 20 of 144 heads, in proportion for other sizes, at least one."""
    total = config.paligemma.depth * config.paligemma.num_heads
    return max(1, round(total * PAPER_HEADS / PAPER_TOTAL))


def dead_heads(config: ModelConfig) -> list[tuple[int, int]]:
    """Heads whose prefix-stream weights get no gradient from the action loss.

    The loss of pi0 and pi0.5 reads the suffix only; suffix tokens see the prefix through keys and values, and those of
    the last layer are computed before its query and output projections act. pi0-FAST has none.
    """
    if config.model_type == "pi0_fast":
        return []
    last = config.paligemma.depth - 1
    return [(last, head) for head in range(config.paligemma.num_heads)]


def dead_heads_warning(heads: Sequence[tuple[int, int]], config: ModelConfig) -> str | None:
    """One line naming chosen heads that cannot be tuned, or None."""
    chosen = sorted(set(heads) & set(dead_heads(config)))
    if not chosen:
        return None
    last = config.paligemma.depth - 1
    names = ", ".join(str(head) for _, head in chosen)
    return (
        f"{len(chosen)} of {len(heads)} selected heads are in layer {last} (head {names}) and receive no gradient: "
        "nothing after that layer's keys and values reaches the actions. Use --exclude-dead-heads to choose others."
    )
