"""Which fields of a robot's observation feed which input of a model: openpi's DROID and LIBERO, or one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from robosteer_model.config import PI0_CAMERAS, ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.images import parse_image


@dataclasses.dataclass(frozen=True)
class DataLayout:
    """Names of an observation's fields.

    Attributes:
        images: field of every image; the i-th belongs to the i-th slot below.
        state: fields that are concatenated to the state vector.
        action_dim: numbers of an action that the robot uses; the model's padding behind them is dropped.
        slots: model type -> image slot of each image. Slots of a model that no image feeds get a black image.
        fast_cameras: the slots of a pi0-FAST model in order, where they differ from its config's.
    """

    images: tuple[str, ...]
    state: tuple[str, ...]
    action_dim: int
    slots: Mapping[str, tuple[str, ...]]
    fast_cameras: tuple[str, ...] | None = None

    def cameras(self, config: ModelConfig) -> tuple[str, ...]:
        """The image slots of a model that reads this layout, in token order."""
        if config.model_type == "pi0_fast" and self.fast_cameras is not None:
            return self.fast_cameras
        return config.cameras

    def slot_fields(self, config: ModelConfig) -> dict[str, str | None]:
        """Image slot -> field of the observation, None for slots without a camera.

        Raises:
            ModelError: when the model lacks a slot that this layout feeds.
        """
        cameras = self.cameras(config)
        # Models with slots of their own take the images in order.
        slots = self.slots.get(config.model_type, ())
        slots = slots if set(slots) <= set(cameras) and slots else cameras[: len(self.images)]
        if len(slots) < len(self.images):
            raise ModelError(f"cameras: found {cameras}, expected a slot for each of {self.images}")
        fields = dict(zip(slots, self.images, strict=True))
        return {name: fields.get(name) for name in cameras}

    def read_state(self, raw: Mapping[str, Any]) -> np.ndarray:
        """The state vector (d,) of an observation, in the robot's units.

        Raises:
            ModelError: for missing, misshapen or non-finite fields.
        """
        parts = [np.atleast_1d(np.asarray(_field(raw, name))) for name in self.state]
        for name, part in zip(self.state, parts, strict=True):
            if part.ndim != 1 or part.dtype.kind not in "fiu" or not np.all(np.isfinite(part)):
                raise ModelError(f"{name}: found {part.dtype} {part.shape}, expected a vector of finite numbers")
        return np.concatenate(parts)

    def read_images(self, raw: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray | None]:
        """Image slot -> uint8 (h, w, 3) in token order, None for slots without a camera."""
        fields = self.slot_fields(config)
        images: dict[str, np.ndarray | None] = {}
        for slot, name in fields.items():
            if name is None:
                images[slot] = None
                continue
            try:
                images[slot] = parse_image(_field(raw, name))
            except ModelError as error:
                raise ModelError(f"{name}: {error}") from None
        return images


def _field(raw: Mapping[str, Any], name: str) -> Any:
    if name not in raw:
        raise ModelError(f"observation: found fields {sorted(raw)}, expected also {name!r}")
    return raw[name]


DROID = DataLayout(
    images=("observation/exterior_image_1_left", "observation/wrist_image_left"),
    state=("observation/joint_position", "observation/gripper_position"),
    action_dim=8,
    slots={
        "pi0": ("base_0_rgb", "left_wrist_0_rgb"),
        "pi05": ("base_0_rgb", "left_wrist_0_rgb"),
        "pi0_fast": ("base_0_rgb", "wrist_0_rgb"),
    },
)
# openpi names LIBERO's images the same for every model type.
LIBERO = DataLayout(
    images=("observation/image", "observation/wrist_image"),
    state=("observation/state",),
    action_dim=7,
    slots=dict.fromkeys(("pi0", "pi05", "pi0_fast"), ("base_0_rgb", "left_wrist_0_rgb")),
    fast_cameras=PI0_CAMERAS,
)
LAYOUTS: dict[str, DataLayout] = {"droid": DROID, "libero": LIBERO}


def data_layout(layout: DataLayout | str) -> DataLayout:
    """A layout by name, or the given one.

    Raises:
        ModelError: for an unknown name; the message lists the known ones.
    """
    if isinstance(layout, DataLayout):
        return layout
    if layout not in LAYOUTS:
        raise ModelError(f"data_layout: found {layout!r}, expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[layout]
