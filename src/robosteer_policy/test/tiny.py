"""A very small random policy in a real checkpoint, whose actions keep one joint moving."""

from pathlib import Path

import numpy as np

from robosteer_model.checkpoint import Checkpoint
from robosteer_model.config import GemmaConfig, ModelConfig, SiglipConfig
from robosteer_model.norm_stats import NormStats
from robosteer_model.params import flatten, param_shapes, unflatten

from .panda import RIG

TOKENIZER = Path(__file__).parents[2] / "robosteer_model/test/golden/shared_tokenizer.model"
HORIZON = 10
# Mean normalised velocity of panda_joint1: 0.6 rad/s in DROID's unit.
DRIFT = 0.2


def tiny_checkpoint(rig: str | None = None) -> Checkpoint:
    """A pi0.5-shaped model with two layers of width 8."""
    sizes = {"num_heads": 2, "head_dim": 4}
    config = ModelConfig(
        model_type="pi05",
        paligemma=GemmaConfig(8, 2, 16, **sizes),
        action_expert=GemmaConfig(8, 2, 8, **sizes),
        siglip=SiglipConfig(width=8, depth=1, mlp_dim=8, num_heads=2, patch_size=(16, 16), image_resolution=(64, 64)),
        vocab_size=512,
        action_dim=8,
        action_horizon=HORIZON,
        max_token_len=64,
        dtype="float32",
        discrete_state_input=True,
    )
    rng = np.random.default_rng(0)
    flat = flatten(param_shapes(config))
    params = {path: 0.05 * rng.standard_normal(leaf.shape).astype(np.float32) for path, leaf in flat.items()}
    mean = np.array([DRIFT, 0, 0, 0, 0, 0, 0, 0.5])
    state = NormStats(mean=np.zeros(8), std=np.ones(8), q01=np.full(8, -3.0), q99=np.full(8, 3.0))
    actions = NormStats(mean=mean, std=np.full(8, 0.01), q01=mean - 0.01, q99=mean + 0.01)
    return Checkpoint(
        params=unflatten(params),
        config=config,
        norm_stats={"state": state, "actions": actions},
        tokenizer=TOKENIZER.read_bytes(),
        rig=RIG.read_text() if rig is None else rig,
        action_convention={"convention": "normalised_joint_velocity", "unit_rad_per_s": 3.0, "rate_hz": 15.0},
        provenance={"recipe": "random weights for a test"},
    )
