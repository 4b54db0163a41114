"""The demo's closing words: what was done, what it brought, and where to look."""

from __future__ import annotations

from typing import Any

from robosteer_bringup.demo.stages import Workspace, read_result


def _rate(evaluation: dict[str, Any]) -> str:
    low, high = (100 * x for x in evaluation["wilson_95"])
    successes, trials = evaluation["successes"], evaluation["trials"]
    return f"{successes}/{trials} = {100 * evaluation['rate']:.0f} % (95 % interval {low:.0f}-{high:.0f} %)"


def summarise(work: Workspace, seconds: float) -> str:
    """Plain text for the terminal."""
    steer = read_result(work.steered / "steer.json")
    base, steered = (read_result(work.evaluation(name)) for name in ("base", "steered"))
    live = read_result(work.trials)
    heads, loss, recipe = steer["heads"], steer["loss"], steer["recipe"]
    chosen = ", ".join(f"({layer}, {head})" for layer, head in heads["chosen"])
    trained = f"{recipe['trainable_parameters']:,} of {recipe['total_parameters']:,} parameters ({recipe['recipe']})"
    commands = [trial["commands"] for trial in live["trials"]]
    sent = sum(c["count"] for c in commands)
    rows = [
        ("task", work.settings.task),
        ("episodes", f"{steer['dataset']['episodes']} recorded, {steer['dataset']['frames']} frames"),
        ("heads", f"{heads['m']} of {heads['of']}, k = {heads['k']}: {chosen}"),
        ("trained", trained),
        ("held-out loss", f"{loss['heldout_before']:.4f} before, {loss['heldout_after']:.4f} after"),
        ("zero-shot", _rate(base)),
        ("steered", _rate(steered) + ", same placements"),
        ("through ROS", f"{live['successes']}/{len(live['trials'])} placements, steered policy"),
        (
            "commands",
            f"{sent} sent, {min(c['rate_hz'] for c in commands):.1f} Hz or more, "
            f"jitter p99 {max(c['jitter_p99_ms'] for c in commands):.1f} ms",
        ),
        ("report", str(work.steered / "report.html")),
        ("film", str(work.trials.with_suffix(".gif"))),
        ("took", f"{seconds / 60:.1f} minutes"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:>{width}}  {value}" for name, value in rows)
