"""How much of everything the demo does; the quick variant runs the same stages on less."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """Sizes of the demo.

    Attributes:
        task: the instruction that the base policy was never taught.
        episodes: demonstrations to record.
        steps: finetuning steps.
        batch_size: frames per step.
        peak_lr: learning rate; the paper's 2.5e-5 is for a model a thousand times larger.
        flow_draws: (noise, time) draws per frame and step; they cost little, for the prefix is read once.
        execute_steps: actions of a chunk that are executed before the next inference. Replanning after three dithers
            between the two ways to turn the wrist to a cube that lies askew.
        evaluation_cells: grid cells on which base and steered policy are compared, in process.
        live_cells: grid cells tried through ROS topics with the steered policy.
        time_limit_s: simulated seconds per trial.
    """

    task: str = "pick up green cube"
    episodes: int = 40
    steps: int = 1000
    batch_size: int = 32
    peak_lr: float = 3e-3
    flow_draws: int = 4
    execute_steps: int = 8
    evaluation_cells: int = 20
    live_cells: int = 8
    time_limit_s: float = 10.0


FULL = DemoSettings()
# Three demonstrations bear no more: at the full rate, what is learnt from two of them does not carry over to the third.
QUICK = DemoSettings(episodes=3, steps=40, peak_lr=5e-4, evaluation_cells=2, live_cells=1, time_limit_s=8.0)
