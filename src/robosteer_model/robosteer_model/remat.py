"""What a backward pass computes again instead of keeping it, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax

# off: nothing. light: everything in a layer but the results of its large products. full: all of it, as openpi does.
Remat = Literal["off", "light", "full"]
# Names that the layers give to the results of their large products (`checkpoint_name`).
KEPT = ("qkv", "z", "residual", "gate", "up")


def rematerialised(layer: Callable[..., Any], remat: Remat) -> Callable[..., Any]:
    """The body of a scan over layers, keeping for its backward pass what `remat` says."""
    if remat == "off":
        return layer
    policy = None if remat == "full" else jax.checkpoint_policies.save_only_these_names(*KEPT)
    return jax.checkpoint(layer, prevent_cse=False, policy=policy)
