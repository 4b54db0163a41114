"""Trains three steps on the devices it is given and prints what came out; started by `test_distributed.py`.

usage: distributed_case.py FSDP DIRECTORY [COORDINATOR PROCESSES INDEX]
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from tiny_model import make_frames, random_params, tiny_config

from robosteer_training.finetune.placement import Placement
from robosteer_training.finetune.processes import join_processes
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.train import train

SETTINGS = TrainSettings(
    steps=3, batch_size=4, micro_batch=2, peak_lr=5e-3, warmup_steps=0, holdout=0.2, eval_frames=4, eval_draws=1
)


def run(fsdp: int, directory: Path) -> dict:
    config = tiny_config()
    spec = AdapterSpec(config, recipe_by_name("steering"), ((0, 1), (1, 2)))
    placement = Placement(fsdp, min_split_bytes=0)
    done = train(random_params(config), spec, make_frames(config), SETTINGS, directory, placement=placement)
    return {
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "loss": done.history.loss,
        "heldout": done.history.heldout,
        "norm": float(sum(np.abs(leaf).sum() for leaf in done.adapter.values())),
        "wrote": (directory / "state.npz").exists(),
    }


if __name__ == "__main__":
    if len(sys.argv) > 3:
        join_processes(sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    print(json.dumps(run(int(sys.argv[1]), Path(sys.argv[2]))))
