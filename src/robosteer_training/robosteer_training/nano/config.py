"""Sizes of robosteer-nano: pi0.5's architecture with every dimension reduced."""

from __future__ import annotations

from robosteer_model.config import GemmaConfig, ModelConfig, SiglipConfig

VOCAB_SIZE = 512
# Colours that the simulated cell knows. The base is taught to pick up only the first two; the others it only ever
# sees lying about, so that picking them up is what few-shot adaptation has to add.
COLOURS = ("red", "blue", "green", "yellow")
BASE_TASKS = ("pick up red cube", "pick up blue cube")


def nano_config() -> ModelConfig:
    """The architecture of pi0.5: SigLIP encoder, two experts with joint attention, adaRMS, state in the prompt.

    Two 64 x 64 views give 2 x 16 image tokens; 6 layers x 8 heads give 48 heads to choose from.
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
        max_token_len=24,
        dtype="float32",
        discrete_state_input=True,
    )
