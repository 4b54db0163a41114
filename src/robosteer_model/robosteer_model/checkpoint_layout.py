"""Where things lie in a checkpoint directory, and what is refused before anything in it is opened.

A checkpoint comes from strangers. TensorStore follows symbolic links and would read (or, on save, write) whatever they
point at, so every entry of the directory is looked at with `lstat` first.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from robosteer_model.errors import ModelError

PARAMS = "params"
ASSETS = "assets"
NORM_STATS_FILE = "norm_stats.json"
TOKENIZER_FILE = "tokenizer.model"
MANIFEST_FILE = "robosteer.json"
MAX_ENTRIES = 200_000


def check_relative(name: str, what: str) -> PurePosixPath:
    """A relative path that stays inside its directory.

    Args:
        name: the path, '/'-separated, as found in a file or an argument.
        what: how error messages call it.

    Raises:
        ModelError: when it is empty, absolute, contains '..', a backslash or a control character.
    """
    parts = name.split("/")
    bad = any(part in ("", ".", "..") for part in parts) or "\\" in name or any(ord(c) < 32 for c in name)
    if bad:
        raise ModelError(f"{what}: found {name!r}, expected a relative path without '..'; refuse the checkpoint")
    return PurePosixPath(name)


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    pending = [directory]
    while pending:
        with os.scandir(pending.pop()) as listing:
            for entry in listing:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))


def refuse_links(root: Path) -> None:
    """Accept only plain files and directories below `root`.

    Raises:
        ModelError: for the first symbolic link, device, pipe or socket, and for absurdly many entries.
    """
    for count, entry in enumerate(_entries(root)):
        mode = entry.stat(follow_symlinks=False).st_mode
        where = os.path.relpath(entry.path, root)
        if stat.S_ISLNK(mode):
            raise ModelError(
                f"checkpoint {root}: found a symbolic link at {where}, expected plain files; "
                "copy the checkpoint with its links resolved (cp -rL) if you trust it"
            )
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ModelError(f"checkpoint {root}: found a special file at {where}, expected plain files; remove it")
        if count >= MAX_ENTRIES:
            raise ModelError(f"checkpoint {root}: found more than {MAX_ENTRIES} entries, expected one checkpoint")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The paths of one checkpoint directory that has been looked through.

    Attributes:
        root: the step directory, absolute and resolved.
    """

    root: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Layout:
        """Look a checkpoint directory through; the given path itself may be a link, nothing below it may.

        Raises:
            ModelError: when it is no checkpoint or holds links or special files.
        """
        try:
            root = Path(path).expanduser().resolve(strict=True)
        except (OSError, RuntimeError):
            raise ModelError(f"checkpoint: found nothing at {path}, expected a checkpoint directory") from None
        if not root.is_dir():
            raise ModelError(f"checkpoint: found a file at {path}, expected a checkpoint directory")
        refuse_links(root)
        if root.name == PARAMS and (root / "_METADATA").is_file():
            raise ModelError(f"checkpoint: found the parameters at {path}, expected the directory above them")
        if not (root / PARAMS).is_dir():
            steps = sorted((p.name for p in root.iterdir() if p.name.isdigit()), key=int)
            hint = f"give one of its steps ({', '.join(steps[-3:])})" if steps else "check the path"
            if (root / "checkpoint" / PARAMS).is_dir():  # Results of `robosteer steer`.
                hint = f"give {Path(path) / 'checkpoint'}"
            raise ModelError(f"checkpoint {path}: found no params/ directory, expected an openpi checkpoint; {hint}")
        return cls(root)

    @property
    def params(self) -> Path:
        """The directory of the parameter store."""
        return self.root / PARAMS

    @property
    def manifest(self) -> Path:
        """RoboSteer's own provenance file; stock tools ignore it."""
        return self.root / MANIFEST_FILE

    @property
    def tokenizer(self) -> Path:
        """The model's own SentencePiece file, when it has one."""
        return self.root / ASSETS / TOKENIZER_FILE

    def norm_stats(self, asset_id: str) -> Path:
        """Where the normalisation statistics of `asset_id` (may contain '/') lie."""
        return self.root / ASSETS / check_relative(asset_id, "asset_id") / NORM_STATS_FILE

    def asset_ids(self) -> list[str]:
        """Every asset id that has normalisation statistics, sorted."""
        assets = self.root / ASSETS
        found = assets.rglob(NORM_STATS_FILE) if assets.is_dir() else []
        return sorted(path.parent.relative_to(assets).as_posix() for path in found if path.parent != assets)
