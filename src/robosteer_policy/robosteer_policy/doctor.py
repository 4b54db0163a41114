"""What must be true before an arm may move, as findings with the fix. Needs no ROS."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from robosteer_policy.contract import contract_differences
from robosteer_policy.guard.proof import Requirement, unproved
from robosteer_rig.rig import Rig

Verdict = Literal["ok", "warn", "fail"]
MIN_FREE_GIB = 5.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        area: machine, rig, checkpoint, graph, guard, controller.
        what: was looked at.
        verdict: ok, warn (motion is possible) or fail (do not move).
        found: in words.
        fix: what to do; empty for ok.
    """

    area: str
    what: str
    verdict: Verdict
    found: str
    fix: str = ""


def judge(area: str, what: str, good: bool, found: str, fix: str, otherwise: Verdict = "fail") -> Finding:
    """A finding that is ok, or something else with its fix."""
    return Finding(area, what, "ok" if good else otherwise, found, "" if good else fix)


def machine(environment: Mapping[str, str], folder: str = ".") -> list[Finding]:
    """Processors, load, disk, and who can hear this machine."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    free = shutil.disk_usage(folder).free / 2**30
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    return [
        judge("machine", "load", load < cores, f"{load:.1f} on {cores} cores", "end other programs", "warn"),
        judge("machine", "disk", free >= MIN_FREE_GIB, f"{free:.0f} GiB free", "free some space", "warn"),
        judge(
            "machine",
            "discovery",
            reach in ("LOCALHOST", "OFF") or "ROS_DOMAIN_ID" in environment,
            f"range {reach}, domain {environment.get('ROS_DOMAIN_ID', '0 (the default)')}",
            "set ROS_DOMAIN_ID to a number of your own, or ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST",
            "warn",
        ),
    ]


def accelerator() -> Finding:
    """Where a model would run."""
    import jax

    devices = jax.devices()
    kinds = ", ".join(sorted({device.platform for device in devices}))
    fix = "install jax with CUDA for full-size models, or use a policy server"
    return judge("machine", "accelerator", kinds != "cpu", f"{len(devices)} x {kinds}", fix, "warn")


def rig_file(rig: Rig) -> list[Finding]:
    """What a rig file leaves open."""
    timeout_s, age_s = rig.action.command_timeout_s, rig.arm.max_age_s
    slowest = max(camera.max_age_s for camera in rig.cameras.values())
    return [
        judge(
            "rig",
            "command timeout",
            timeout_s <= 0.06,
            f"{timeout_s * 1e3:.0f} ms",
            "action.command_timeout_s above 0.06 lets an arm at 1 rad/s travel more than 0.15 rad after a fault",
            "warn",
        ),
        judge(
            "rig",
            "age limits",
            age_s <= 0.1 and slowest <= 0.08,
            f"joints {age_s * 1e3:.0f} ms, cameras {slowest * 1e3:.0f} ms",
            "rest within 300 ms and 0.15 rad from 1 rad/s needs at most 100 ms for joints and 80 ms for cameras",
            "warn",
        ),
        judge("rig", "workspace", rig.workspace is not None, "stated" if rig.workspace else "none", "add one", "warn"),
    ]


def checkpoint(path: str, rig: Rig) -> list[Finding]:
    """Whether a checkpoint is there and made for this rig."""
    from robosteer_model.checkpoint import Manifest
    from robosteer_model.checkpoint_layout import Layout

    try:
        manifest = Manifest.read(Layout.open(path).manifest)
        lines, known = contract_differences(manifest.rig, manifest.action_convention, rig)
    except Exception as error:
        if not getattr(error, "user_error", False):
            raise
        return [Finding("checkpoint", "files", "fail", str(error), "give the directory of a checkpoint")]
    found = [Finding("checkpoint", "files", "ok", path)]
    if not known:
        fix = "check cameras, units and rate yourself"
        return [*found, Finding("checkpoint", "contract", "warn", "says nothing about its rig", fix)]
    fix = "use the rig file it was made for, or train for this one"
    return [*found, judge("checkpoint", "contract", not lines, "; ".join(lines[:3]) or "fits the rig", fix)]


def streams(rows: Sequence[Any]) -> list[Finding]:
    """Rows of `robosteer_rig.check` as findings, those that are well as one line per stream."""
    found: list[Finding] = []
    for stream in dict.fromkeys(row.stream for row in rows):
        own = [row for row in rows if row.stream == stream]
        poor = [row for row in own if row.verdict != "ok"]
        for row in poor:
            verdict: Verdict = "fail" if row.verdict == "bad" else "warn"
            found.append(Finding("graph", f"{stream} {row.what}", verdict, row.found, f"expected {row.expected}"))
        if not poor:
            rate = next((row.found for row in own if row.what == "rate"), "present")
            found.append(Finding("graph", stream, "ok", rate))
    return found


@dataclasses.dataclass(frozen=True)
class GraphFacts:
    """What the live graph says beside the rig's streams.

    Attributes:
        guard: the guard's status, None when nothing was heard.
        policy: the policy's state, None likewise.
        writers: node names that publish the arm's command topic.
        readers: number of subscriptions to it.
        parameters: (node, parameter) -> value, None where a node does not say.
    """

    guard: Mapping[str, Any] | None
    policy: Mapping[str, Any] | None
    writers: tuple[str, ...]
    readers: int
    parameters: Mapping[tuple[str, str], object]


def graph(facts: GraphFacts, needs: Sequence[Requirement], *, hardware: bool) -> list[Finding]:
    """Guard, policy and controller.

    Args:
        facts: of the live graph.
        needs: parameters that prove the controller's rate limiter.
        hardware: whether a real controller is behind the command topic.
    """
    guard, policy = facts.guard, facts.policy
    strangers = sorted(set(facts.writers) - {"guard", "watchdog"})
    strangers += ["all guards but one"] if facts.writers.count("guard") > 1 else []
    found = [
        judge("guard", "alive", guard is not None, _said(guard), "start the guard (robosteer deploy or record)"),
        judge(
            "guard",
            "no fault",
            guard is None or guard.get("state") != "fault",
            _said(guard),
            "read the reason, look at the arm, then call /guard/arm",
            "warn",
        ),
        judge("guard", "alone", not strangers, ", ".join(facts.writers) or "nobody", f"stop {', '.join(strangers)}"),
        judge("graph", "policy", policy is not None, _said(policy), "start the policy (robosteer deploy)", "warn"),
        judge(
            "controller",
            "listens",
            facts.readers > (1 if hardware else 0),
            f"{facts.readers} subscriptions to the command topic",
            "activate the controller (ros2 control list_controllers), and start the watchdog",
        ),
    ]
    if not hardware:
        return found
    trouble = unproved(needs, facts.parameters)
    fix = "limit acceleration and jerk in the controller's process, or use mode:=joint_impedance"
    watched = "watchdog" in facts.writers
    return [
        *found,
        judge("controller", "rate limiter", not trouble, trouble or "read back", fix),
        judge("controller", "watchdog", watched, "alive" if watched else "none", "run it on the control computer"),
    ]


def _said(status: Mapping[str, Any] | None) -> str:
    return "nothing heard" if status is None else f"{status.get('state')}: {status.get('reason')}"
