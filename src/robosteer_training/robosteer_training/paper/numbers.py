"""What the paper prints. Success in per cent of 40 trials; keys pi0 and pi05 name its models."""

from __future__ import annotations

TASKS = (
    "place marker in mug",
    "press red button hard",
    "pick up red cube",
    "place green cube in red bowl",
    "push red cup to red bowl",
)
UNSEEN = "pick up mug"
DEMOS = 20
HEADS, TOTAL = 20, 144
MODELS = {"pi0": "π0", "pi05": "π0.5"}

SUCCESS: dict[str, dict[str, tuple[float, ...]]] = {
    "zero-shot": {"pi0": (15, 0, 35, 5, 0), "pi05": (10, 0, 20, 0, 0)},
    "LoRA": {"pi0": (75, 45, 75, 60, 10), "pi05": (62.5, 90, 70, 65, 20)},
    "steering": {"pi0": (80, 75, 90, 85, 17.5), "pi05": (72.5, 85, 77.5, 80, 27.5)},
}
"""Table 1, in the order of `TASKS`."""

TABLE2_COLUMNS = ("seen", "other", "unseen", "lighting", "form", "distractors")
TABLE2: dict[str, tuple[float, ...]] = {
    "LoRA": (62.5, 20, 42.5, 25, 22.5, 30),
    "steering": (72.5, 25, 65, 47.5, 37.5, 40),
    "LoRA, two tasks": (37.5, 37.5, 0, 15, 12.5, 15),
    "steering, two tasks, disjoint heads": (45, 65, 12.5, 30, 17.5, 25),
    "steering, two tasks, joint heads": (40, 47.5, 20, 22.5, 20, 27.5),
}
TABLE3 = {"steering, cma": 15.0, "steering, reinforce": 80.0, "steering, knn": 80.0, "q-only": 10.0, "q+mlp": 80.0}
"""Marker task, π0 (the text says π0.5, but 80 % is π0's)."""
CV = {"pi0": {"suffix.first": 0.12, "prefix.last": 0.04}, "pi05": {"suffix.first": 0.47, "prefix.last": 0.05}}
TABLE5 = {"full": (45.0, 77.5, 55.0), "steering-full": (60.0, 87.5, 72.5)}
TABLE5_MIB = {"full": 12799.5, "steering-full": 9012.5}
VOTES = {"top": (86.75, 9.13, 20), "worst": (81.25, 6.57, 20), "all": (83.5, 45.62, 144), "random": (82.5, 6.75, 20)}
"""Table 6: accuracy in per cent, voting margin, heads."""
ADAPTER_MIB = {
    ("pi0", "steering"): 78.8,
    ("pi05", "steering"): 74.6,
    ("pi0", "lora"): 1785.9,
    ("pi05", "lora"): 1781.3,
}
"""Printed as millions of parameters; the digits are MiB of float32."""
DEMONSTRATIONS = (5, 10, 20, 40)
HEAD_COUNTS = (5, 10, 20, 40, 144)
FIGURE5 = {20: 72.5, 144: 45.0}
STABILITY = {20: (54, 82), 40: (74, 90)}
OVERLAP = (5, 74)
