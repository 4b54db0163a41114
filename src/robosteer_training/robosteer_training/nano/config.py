"""Sizes of robosteer-nano: pi0.5's architecture with every dimension reduced."""

from __future__ import annotations

from robosteer_model.config import GemmaConfig, ModelConfig, SiglipConfig

VOCAB_SIZE = 512
COLOURS = ("red", "blue", "green", "yellow")
"""Of the cubes that lie in the scenes. The base is asked to act on blue and yellow things only; red and green cubes it
merely sees lying about, and a mug, a red cup, bowl or button never: adapting has to add those."""
BASE_TASKS = (
    "pick up blue cube",
    "pick up yellow cube",
    "press blue button hard",
    "press yellow button hard",
    "place blue cube in yellow bowl",
    "place yellow cube in blue bowl",
    "push blue cup to yellow bowl",
    "push yellow cup to blue bowl",
    "place marker in blue bowl",
    "place marker in yellow bowl",
)
OBJECTS = (
    *(f"{colour} cube" for colour in COLOURS),
    *(f"{colour} {kind}" for kind in ("button", "cup", "bowl") for colour in ("blue", "yellow")),
    "marker",
)
"""What lies in the scenes of those tasks."""


def nano_config() -> ModelConfig:
    """The architecture of pi0.5: SigLIP encoder, two experts with joint attention, adaRMS, state in the prompt.

    Two 64 x 64 views give 2 x 16 image tokens, the longest prompt has 25 tokens; 6 layers x 8 heads give 48 heads to
    choose from.
    """
    return ModelConfig(
        model_type="pi05",
        paligemma=GemmaConfig(width=128, depth=6, mlp_dim=384, head_dim=16),
        action_expert=GemmaConfig(width=96, depth=6, mlp_dim=256, head_dim=16),
        siglip=SiglipConfig(
            width=96, depth=3, mlp_dim=256, num_heads=4, patch_size=(16, 16), image_resolution=(64, 64)
        ),
        vocab_size=VOCAB_SIZE,
        action_dim=8,
        action_horizon=10,
        max_token_len=32,
        dtype="float32",
        discrete_state_input=True,
    )
