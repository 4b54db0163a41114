"""Let a policy act: the robot's side, the guard (source: policy), the policy and, in simulation, trials of it."""

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition, UnlessCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import EnvironmentVariable, IfElseSubstitution, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from robosteer_bringup.launcher.checks import check_first

# What a run needs besides the rig's topics to be replayed and understood.
RUN_TOPICS = (
    "/robosteer/policy/chunk_record:std_msgs/msg/String",
    "/robosteer/policy/chunk:trajectory_msgs/msg/JointTrajectory",
    "/robosteer/policy/command:sensor_msgs/msg/JointState",
    "/robosteer/policy/gripper:std_msgs/msg/Float64",
    "/robosteer/policy/state:std_msgs/msg/String!",
    "/policy/steer/state:std_msgs/msg/String!",
    "/robosteer/watchdog/status:std_msgs/msg/String",
    "/diagnostics:diagnostic_msgs/msg/DiagnosticArray",
)


def typed(name: str, value_type: type) -> ParameterValue:
    """Return a launch argument as a parameter of a stated type."""
    return ParameterValue(LaunchConfiguration(name), value_type=value_type)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the stack."""
    share = FindPackageShare("robosteer_bringup")
    sim = LaunchConfiguration("sim")
    rig_file = IfElseSubstitution(sim, "sim_panda.yaml", "fr3_robotiq_zed.yaml")
    arguments = [
        DeclareLaunchArgument("checkpoint", description="directory of the checkpoint; empty with server:=..."),
        DeclareLaunchArgument(
            "sim", default_value="false", choices=["true", "false"], description="simulated cell instead of hardware"
        ),
        DeclareLaunchArgument(
            "rig",
            default_value=PathJoinSubstitution([share, "config", "rigs", rig_file]),
            description="path of the rig file",
        ),
        DeclareLaunchArgument("instruction", default_value="pick up red cube", description="what the policy shall do"),
        DeclareLaunchArgument(
            "auto_enable",
            default_value="false",
            choices=["true", "false"],
            description="arm and act as soon as the checkpoint is loaded and everything is fresh (simulation only)",
        ),
        DeclareLaunchArgument(
            "auto_enable",
            choices=["false"],
            description="on hardware a person arms, and a person enables",
            condition=UnlessCondition(sim),
        ),
        DeclareLaunchArgument(
            "execute_steps", default_value="8", description="actions of a chunk used before the next one takes over"
        ),
        DeclareLaunchArgument(
            "overrun_steps", default_value="1", description="actions still executed when the next chunk is late"
        ),
        DeclareLaunchArgument(
            "stall_s", default_value="0.5", description="a late chunk ends the run after this long at rest, s"
        ),
        DeclareLaunchArgument(
            "max_observation_age_s",
            default_value="1.0",
            description="actions are discarded if what they were computed from is older than this when they come, s",
        ),
        DeclareLaunchArgument("seed", default_value="0", description="seed of the simulated scene"),
        DeclareLaunchArgument(
            "publish_clock", default_value="false", choices=["true", "false"], description="run on simulated time"
        ),
        DeclareLaunchArgument(
            "trials",
            default_value="false",
            choices=["true", "false"],
            description="try the policy scene after scene, write the outcome, end (simulation only)",
        ),
        DeclareLaunchArgument(
            "trials",
            choices=["false"],
            description="trials reset the simulated scene, which hardware has not",
            condition=UnlessCondition(sim),
        ),
        DeclareLaunchArgument(
            "execution",
            default_value="asynchronous",
            choices=["asynchronous", "synchronous", "ensembling", "realtime"],
            description="how action chunks are executed",
        ),
        DeclareLaunchArgument(
            "server", default_value="", description="policy server instead of a checkpoint, ws://..."
        ),
        DeclareLaunchArgument("preset_dir", default_value="", description="directory of steering presets"),
        DeclareLaunchArgument(
            "allow_unbound_presets",
            default_value="false",
            choices=["true", "false"],
            description="accept presets that do not name the checkpoint they were made for",
        ),
        DeclareLaunchArgument(
            "attention_heads",
            default_value="",
            description="layer.head ... whose attention can be seen; empty for none",
        ),
        DeclareLaunchArgument(
            "cluster_overlay",
            default_value="",
            description="preset whose activation by the pictures can be seen; empty for none",
        ),
        DeclareLaunchArgument(
            "shadow",
            default_value="",
            choices=["", "plain", "steered"],
            description="compute and publish this policy too, without executing it",
        ),
        DeclareLaunchArgument(
            "record", default_value="false", choices=["true", "false"], description="bag every run, for replay"
        ),
        DeclareLaunchArgument("out", default_value="runs/deploy", description="directory of these bags"),
        DeclareLaunchArgument("trial_cells", default_value="[4, 13, 22, 31]", description="grid cells of the trials"),
        DeclareLaunchArgument("trial_time_limit_s", default_value="10.0", description="patience per trial, s"),
        DeclareLaunchArgument("trial_out", default_value="trials.json", description="file for the outcome"),
    ]
    # A simulated robot stays on this machine, unless the user says otherwise.
    discovery = SetEnvironmentVariable(
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        EnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", default_value="LOCALHOST"),
        condition=IfCondition(sim),
    )
    # The group keeps the arguments of the included file from leaking into this one.
    robot = GroupAction(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(PathJoinSubstitution([share, "launch", "robot.launch.py"])),
                launch_arguments=[
                    ("sim", sim),
                    ("rig", LaunchConfiguration("rig")),
                    ("source", "policy"),
                    ("auto_arm", LaunchConfiguration("auto_enable")),
                    ("task", LaunchConfiguration("instruction")),
                    ("seed", LaunchConfiguration("seed")),
                    ("publish_clock", LaunchConfiguration("publish_clock")),
                ],
            )
        ]
    )
    policy = Node(
        package="robosteer_policy",
        executable="policy",
        output="screen",
        parameters=[
            {
                "rig": typed("rig", str),
                "checkpoint": typed("checkpoint", str),
                "instruction": typed("instruction", str),
                "auto_enable": typed("auto_enable", bool),
                "execute_steps": typed("execute_steps", int),
                "execution": typed("execution", str),
                "overrun_steps": typed("overrun_steps", int),
                "stall_s": typed("stall_s", float),
                "max_observation_age_s": typed("max_observation_age_s", float),
                "server": typed("server", str),
                "preset_dir": typed("preset_dir", str),
                "allow_unbound_presets": typed("allow_unbound_presets", bool),
                "attention_heads": typed("attention_heads", str),
                "cluster_overlay": typed("cluster_overlay", str),
                "shadow": typed("shadow", str),
                "use_sim_time": typed("publish_clock", bool),
            }
        ],
        on_exit=Shutdown(reason="the policy ended"),
    )
    recorder = Node(
        package="robosteer_teleop",
        executable="recorder",
        output="screen",
        parameters=[
            {
                "rig": typed("rig", str),
                "directory": typed("out", str),
                "instruction": typed("instruction", str),
                "extra_topics": " ".join(RUN_TOPICS),
                "use_sim_time": typed("publish_clock", bool),
            }
        ],
        on_exit=Shutdown(reason="the recorder ended"),
        condition=IfCondition(LaunchConfiguration("record")),
    )
    run_recorder = Node(
        package="robosteer_policy",
        executable="run_recorder",
        output="screen",
        on_exit=Shutdown(reason="the run recorder ended"),
        condition=IfCondition(LaunchConfiguration("record")),
    )
    trials = Node(
        package="robosteer_sim",
        executable="trial_runner",
        output="screen",
        parameters=[
            {
                "rig": typed("rig", str),
                "task": typed("instruction", str),
                "grid_cells": LaunchConfiguration("trial_cells"),
                "first_seed": typed("seed", int),
                "time_limit_s": typed("trial_time_limit_s", float),
                "out": typed("trial_out", str),
                "use_sim_time": typed("publish_clock", bool),
            }
        ],
        on_exit=Shutdown(reason="the trials are over"),
        condition=IfCondition(LaunchConfiguration("trials")),
    )
    # The drivers' launch files are their vendors'.
    first = OpaqueFunction(function=check_first, args=[__file__], kwargs={"drivers": "false"})
    return LaunchDescription([*arguments, first, discovery, robot, policy, recorder, run_recorder, trials])
