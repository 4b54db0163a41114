"""The layouts for RViz and Foxglove.

Pins: a topic or service in a layout that nothing publishes; a Foxglove panel in the layout without its settings.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rcl_interfaces.msg import ParameterType

PACKAGE = Path(__file__).parents[1]
DOCUMENTED = (PACKAGE.parents[1] / "docs/reference/topics.md").read_text()
OTHERS = {"/robot_description"}  # Published by the arm's own bringup.


def texts(value: Any) -> Iterator[str]:
    """Every string inside nested lists and dictionaries, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for item in (*value, *value.values()) for text in texts(item))
    elif isinstance(value, list):
        yield from (text for item in value for text in texts(item))


def undocumented(layout: Any) -> list[str]:
    names = [text for text in texts(layout) if re.fullmatch(r"/[a-z_]+(/[a-z_]+)*(\.[a-z_]+(\[\d\])?)?", text)]
    assert len(names) > 3
    plain = {re.sub(r"\..*|^/(wrist|left|right)/", lambda m: "/<camera>/" if m[0][0] == "/" else "", n) for n in names}
    return sorted(name for name in plain - OTHERS if f"`{name}`" not in DOCUMENTED)


def test_foxglove_layout() -> None:
    layout = json.loads((PACKAGE / "config/foxglove/robosteer.json").read_text())
    panels = {text for text in texts(layout["layout"]) if "!" in text}
    assert panels == set(layout["configById"])
    assert all(re.fullmatch(r"[A-Za-z0-9]+![a-z]+", panel) for panel in panels)
    assert not undocumented(layout["configById"])
    shown = set(texts(layout["configById"]))
    assert shown >= {"/policy/steer/state.data", "/robosteer/guard/status.data", "/robosteer/policy/path"}


def test_a_steering_button_is_a_wish_that_the_policy_understands() -> None:
    layout = json.loads((PACKAGE / "config/foxglove/robosteer.json").read_text())
    (parameter,) = json.loads(layout["configById"]["CallService!release"]["requestPayload"])["parameters"]
    assert (parameter["name"], parameter["value"]["type"]) == ("request", ParameterType.PARAMETER_STRING)
    assert json.loads(parameter["value"]["string_value"]) == {"preset": "*", "strength": 0}


def test_rviz_config() -> None:
    config = yaml.safe_load((PACKAGE / "config/rviz/robosteer.rviz").read_text())
    displays = config["Visualization Manager"]["Displays"]
    assert {display["Class"].split("/")[1] for display in displays} >= {"Image", "RobotModel", "TF"}
    assert len({display["Name"] for display in displays}) == len(displays)
    assert not undocumented(displays)


def test_controllers_name_the_topic_and_joints_of_the_rig() -> None:
    controllers = yaml.safe_load((PACKAGE / "config/controllers/fr3.yaml").read_text())
    rig = yaml.safe_load((PACKAGE / "config/rigs/fr3_robotiq_zed.yaml").read_text())
    assert rig["arm"]["command_topic"] == "/joint_velocity_controller/commands"
    assert controllers["joint_velocity_controller"]["ros__parameters"]["joints"] == rig["arm"]["joints"]
