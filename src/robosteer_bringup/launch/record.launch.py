"""Record demonstrations: the robot's side, the guard (source: teleop), the recorder and an operator."""

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
from launch.substitutions import (
    EnvironmentVariable,
    EqualsSubstitution,
    IfElseSubstitution,
    LaunchConfiguration,
    NotSubstitution,
    PathJoinSubstitution,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from robosteer_bringup.launcher.checks import check_first


def text(name: str) -> ParameterValue:
    """Return a launch argument as a parameter that stays text, even if it looks like a number."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def whole(name: str) -> ParameterValue:
    """Return a launch argument as an integer parameter."""
    return ParameterValue(LaunchConfiguration(name), value_type=int)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the stack."""
    share = FindPackageShare("robosteer_bringup")
    sim = LaunchConfiguration("sim")
    scripted = EqualsSubstitution(LaunchConfiguration("operator"), "scripted")
    cartesian = EqualsSubstitution(LaunchConfiguration("output"), "cartesian")
    # Beside the episodes, because one recorder at a time uses that directory; mode 0600, gone when the node ends.
    connection = ParameterValue(PathJoinSubstitution([LaunchConfiguration("out"), ".teleop.json"]), value_type=str)
    rig_file = IfElseSubstitution(sim, "sim_panda.yaml", "fr3_robotiq_zed.yaml")
    simulated_time = ParameterValue(LaunchConfiguration("publish_clock"), value_type=bool)
    arguments = [
        DeclareLaunchArgument(
            "sim", default_value="false", choices=["true", "false"], description="simulated cell instead of hardware"
        ),
        DeclareLaunchArgument(
            "rig",
            default_value=PathJoinSubstitution([share, "config", "rigs", rig_file]),
            description="path of the rig file",
        ),
        DeclareLaunchArgument("out", default_value="demos", description="directory for the episodes"),
        DeclareLaunchArgument("task", default_value="pick up red cube", description="instruction of the episodes"),
        DeclareLaunchArgument(
            "operator",
            default_value="quest",
            choices=["quest", "scripted", "none"],
            description="who demonstrates: a person with a headset (address and code are printed), the simulated "
            "cell's own operator, which ends the launch when it is done, or another program of yours",
        ),
        DeclareLaunchArgument(
            "operator",
            choices=["quest", "none"],
            description="the scripted operator knows the simulated cell only",
            condition=UnlessCondition(sim),
        ),
        DeclareLaunchArgument("episodes", default_value="10", description="how many episodes are wanted"),
        DeclareLaunchArgument(
            "limits",
            default_value=IfElseSubstitution(scripted, "normal", "teach"),
            choices=["teach", "normal", "ceiling"],
            description="how fast the hand may move the arm: 0.25, 0.5 or 1.0 m/s",
        ),
        DeclareLaunchArgument(
            "output",
            default_value="joint_velocity",
            choices=["joint_velocity", "cartesian"],
            description="joint_velocity: through the guard; cartesian: poses to an impedance controller",
        ),
        DeclareLaunchArgument(
            "unguarded",
            default_value=sim,
            choices=["true", "false"],
            description="with output:=cartesian on hardware: accept that no other process checks the poses",
        ),
        DeclareLaunchArgument("host", default_value="auto", description="address that the headset's page is served on"),
        DeclareLaunchArgument(
            "countdown",
            default_value=IfElseSubstitution(scripted, "0.0", "3.0"),
            description="between pressing A and the recording, s",
        ),
        DeclareLaunchArgument("first_seed", default_value="0", description="seed of the first scene"),
        DeclareLaunchArgument(
            "variation",
            default_value="",
            choices=["", "lighting", "form", "distractors", "camera", "randomised"],
            description="change of the simulated scenes' conditions; empty for none",
        ),
        DeclareLaunchArgument(
            "serials", default_value="", description="for episode.json: arm=... gripper=... CAMERA=..., with spaces"
        ),
        DeclareLaunchArgument(
            "calibration",
            default_value="",
            description="path of the cameras' calibration, whose SHA-256 goes into episode.json",
        ),
        DeclareLaunchArgument(
            "publish_clock", default_value="false", choices=["true", "false"], description="run on simulated time"
        ),
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
                    ("source", "teleop"),
                    ("controller", IfElseSubstitution(cartesian, "cartesian_impedance", "joint_velocity")),
                    ("task", LaunchConfiguration("task")),
                    ("seed", LaunchConfiguration("first_seed")),
                    ("publish_clock", LaunchConfiguration("publish_clock")),
                ],
            )
        ]
    )
    recorder = Node(
        package="robosteer_teleop",
        executable="recorder",
        output="screen",
        parameters=[
            {
                "rig": text("rig"),
                "directory": text("out"),
                "instruction": text("task"),
                "serials": text("serials"),
                "calibration": text("calibration"),
                "countdown_s": ParameterValue(LaunchConfiguration("countdown"), value_type=float),
                # The renderer has no noise: pictures of a still scene are equal.
                "frozen_s": ParameterValue(IfElseSubstitution(sim, "0.0", "1.0"), value_type=float),
                "confirm_degraded": ParameterValue(NotSubstitution(scripted), value_type=bool),
                "use_sim_time": simulated_time,
            }
        ],
        on_exit=Shutdown(reason="the recorder ended"),
    )
    teleop = Node(
        package="robosteer_teleop",
        executable="teleop",
        output="screen",
        parameters=[
            {
                "rig": text("rig"),
                "limits": text("limits"),
                "output": text("output"),
                "unguarded": ParameterValue(LaunchConfiguration("unguarded"), value_type=bool),
                "controller": IfElseSubstitution(sim, "/cell", "/cartesian_impedance_controller"),
                "episodes": whole("episodes"),
                "host": text("host"),
                "connection_file": connection,
                "pose_log_dir": ParameterValue(
                    PathJoinSubstitution([LaunchConfiguration("out"), "poses"]), value_type=str
                ),
                # The scripted operator comes in on the loopback, stands straight and needs no certificate.
                "align_first": ParameterValue(NotSubstitution(scripted), value_type=bool),
                "port": ParameterValue(IfElseSubstitution(scripted, "-1", "8443"), value_type=int),
                "loopback_port": ParameterValue(IfElseSubstitution(scripted, "0", "8080"), value_type=int),
                "use_sim_time": simulated_time,
            }
        ],
        on_exit=Shutdown(reason="the teleop node ended"),
        condition=UnlessCondition(EqualsSubstitution(LaunchConfiguration("operator"), "none")),
    )
    operator = Node(
        package="robosteer_sim",
        executable="scripted_operator",
        output="screen",
        parameters=[
            {
                "rig": text("rig"),
                "task": text("task"),
                "episodes": whole("episodes"),
                "first_seed": whole("first_seed"),
                "variation": text("variation"),
                "connection_file": connection,
                "use_sim_time": simulated_time,
            }
        ],
        on_exit=Shutdown(reason="the scripted operator is done"),
        condition=IfCondition(scripted),
    )
    # The drivers' launch files are their vendors'.
    first = OpaqueFunction(function=check_first, args=[__file__], kwargs={"drivers": "false"})
    return LaunchDescription([*arguments, first, discovery, robot, recorder, teleop, operator])
