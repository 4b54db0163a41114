"""Convert all recordings of a directory into a dataset: parallel, resumable, damaged episodes set aside."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from robosteer_rig.align import policy_cameras
from robosteer_rig.bags import bag_digest, require_metadata
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig
from robosteer_training.convert_episode import ConvertSettings, effective_rig
from robosteer_training.dataset import DATASET_FILE, DATASET_SCHEMA, Dataset, load_dataset, load_episodes
from robosteer_training.episode_pool import EpisodeJob, run_jobs
from robosteer_training.episodes import EpisodeInfo, discover_episodes, read_episode
from robosteer_training.files import json_digest, write_json
from robosteer_training.keyframes import Selection

if TYPE_CHECKING:
    from rich.progress import Progress

# Raised whenever the same bag and settings would give other frames than before.
CONVERTER_VERSION = 2


class ConversionError(RobosteerError):
    """Some episodes could not be converted; the others are in the store.

    Attributes:
        failures: one line per damaged episode.
    """

    def __init__(self, message: str, failures: list[str]) -> None:
        self.failures = failures
        super().__init__(message)


@dataclasses.dataclass
class Summary:
    """What a conversion did.

    Attributes:
        converted: episodes converted now.
        reused: episodes that were in the store already.
        skipped: episodes left out because of their outcome.
        failures: one line per damaged episode.
    """

    converted: int = 0
    reused: int = 0
    skipped: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)


def convert_bags(
    bag_dir: str | Path,
    out_dir: str | Path,
    rig: Rig | None = None,
    *,
    settings: ConvertSettings | None = None,
    selection: Selection | None = None,
    outcomes: tuple[str, ...] = ("success",),
    jobs: int = 1,
    progress: Progress | None = None,
    skip_bad: bool = False,
    summary: Summary | None = None,
) -> Dataset:
    """Convert recordings into a dataset; an episode that is in the store already is not converted again.

    Args:
        bag_dir: one episode or a directory of episodes.
        out_dir: the store; may hold other datasets' episodes.
        rig: the contract; None takes the one recorded in the first episode.
        settings: see `ConvertSettings`.
        selection: frames to score and train on; changing it converts nothing again.
        outcomes: labels to take; episodes without a label are always taken.
        jobs: worker processes; 1 converts in this process.
        progress: shows a bar with the remaining time; it is started when the work begins.
        skip_bad: make the dataset from the undamaged episodes only.
        summary: filled with what was done.

    Returns:
        The dataset of the chosen episodes, in the order of their paths.

    Raises:
        ConversionError: when episodes are damaged and `skip_bad` is False; the others are converted all the same.
        RobosteerError: for an empty directory, a missing rig and the like.
    """
    settings, summary = settings or ConvertSettings(), summary or Summary()
    store = Path(out_dir)
    infos = _select(Path(bag_dir), outcomes, summary)
    rig = _recorded_rig(infos) if rig is None else rig
    _require_cameras(rig, settings)
    keys = _convert_missing(infos, store, rig, settings, jobs=jobs, progress=progress, summary=summary)
    good = [keys[info.path] for info in infos if info.path in keys]
    if summary.failures and (not skip_bad or not good):
        raise ConversionError(
            f"{bag_dir}: found {len(summary.failures)} damaged episodes (first: {summary.failures[0]}); "
            "repair or remove them, or pass --skip-bad",
            summary.failures,
        )
    meaning = effective_rig(rig, settings)
    content = {
        "schema": DATASET_SCHEMA,
        "rig": meaning.to_yaml(),
        "rig_digest": meaning.digest(),
        "rate_hz": meaning.action.rate_hz,
        "cameras": list(settings.cameras or policy_cameras(rig)),
        "episodes": good,
        "selection": dataclasses.asdict(selection or Selection()),
    }
    write_json(store / DATASET_FILE, content)
    return load_dataset(store)


def episode_key(bag_sha256: str, info: EpisodeInfo, rig: Rig, settings: ConvertSettings) -> str:
    """Name of an episode in the store: equal inputs give equal names, wherever the recording lies."""
    content = {
        "version": CONVERTER_VERSION,
        "bag": bag_sha256,
        "markers": [info.from_ns, info.until_ns],
        "instruction": settings.instruction or info.instruction,
        "outcome": info.outcome,
        "recorded_rig": info.rig_text,
        "rig": rig.digest(),
        "settings": dataclasses.asdict(settings),
    }
    return json_digest(content)[:32]


def _select(bag_dir: Path, outcomes: tuple[str, ...], summary: Summary) -> list[EpisodeInfo]:
    found = discover_episodes(bag_dir)
    chosen = []
    for path in found:
        try:
            info = read_episode(path)
        except RobosteerError as error:
            summary.failures.append(str(error))
            continue
        if info.outcome is None or info.outcome in outcomes:
            chosen.append(info)
        else:
            summary.skipped += 1
    if not chosen:
        reason = summary.failures[0] if summary.failures else f"outcomes other than {', '.join(outcomes)}"
        raise RobosteerError(
            f"bag directory {bag_dir}: found {len(found)} episodes and none to convert ({reason}); "
            "record successful ones or pass --outcomes"
        )
    return chosen


def _recorded_rig(infos: list[EpisodeInfo]) -> Rig:
    for info in infos:
        rig = info.rig()
        if rig is not None:
            return rig
    raise RobosteerError(f"{infos[0].path}: found no recorded rig, expected one; pass --rig")


def _require_cameras(rig: Rig, settings: ConvertSettings) -> None:
    for name in settings.cameras or ():
        if name not in rig.cameras:
            raise RobosteerError(f"--cameras: found {name!r}, expected some of {', '.join(rig.cameras)}")


def _convert_missing(
    infos: list[EpisodeInfo],
    store: Path,
    rig: Rig,
    settings: ConvertSettings,
    *,
    jobs: int,
    progress: Progress | None,
    summary: Summary,
) -> dict[Path, str]:
    """Convert what the store lacks; returns episode path -> key of the good ones."""
    keys: dict[Path, str] = {}
    missing: list[EpisodeJob] = []
    seen: set[str] = set()
    for info, digest in _digests(infos, jobs):
        if isinstance(digest, RobosteerError):
            summary.failures.append(str(digest))
            continue
        key = episode_key(digest, info, rig, settings)
        final = store / "episodes" / key
        if key in seen:
            # Its frames would be their own nearest neighbours "in another episode".
            summary.failures.append(f"{info.path}: found a copy of another episode, expected each once; remove one")
        elif _is_whole(final, rig, settings):
            keys[info.path] = key
            summary.reused += 1
        else:
            missing.append(EpisodeJob(info, final, digest, rig, settings))
        seen.add(key)
    for job, error in run_jobs(missing, jobs, progress):
        if error is not None:
            summary.failures.append(str(error))
            continue
        keys[job.info.path] = job.final.name
        summary.converted += 1
    return keys


def _digests(infos: list[EpisodeInfo], jobs: int) -> Iterator[tuple[EpisodeInfo, str | RobosteerError]]:
    """Digest all recordings, in threads: hashing leaves Python's lock to the others."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from zip(infos, pool.map(_digest, infos), strict=True)


def _digest(info: EpisodeInfo) -> str | RobosteerError:
    try:
        require_metadata(info.bag_path)
        return bag_digest(info.bag_path)
    except RobosteerError as error:
        return error
    except OSError as error:
        return RobosteerError(f"{info.path}: found an unreadable file ({error}), expected a bag")


def _is_whole(final: Path, rig: Rig, settings: ConvertSettings) -> bool:
    """Whether the store holds this episode; a damaged one is removed."""
    if not final.exists():
        return False
    try:
        load_episodes(final.parent, [final.name], settings.cameras or policy_cameras(rig), rig)
    except RobosteerError:
        shutil.rmtree(final)
        return False
    return True
