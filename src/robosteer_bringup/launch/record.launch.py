"""Record demonstrations: the robot's side, the guard (source: teleop), the recorder and an operator."""

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
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
    PathJoinSubstitution,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


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
            default_value="none",
            choices=["none", "scripted"],
            description="who demonstrates; scripted (simulation only) ends the launch when it is done",
        ),
        DeclareLaunchArgument(
            "operator",
            choices=["none"],
            description="the scripted operator knows the simulated cell only",
            condition=UnlessCondition(sim),
        ),
        DeclareLaunchArgument("episodes", default_value="10", description="episodes of the scripted operator"),
        DeclareLaunchArgument("first_seed", default_value="0", description="seed of its first scene"),
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
                "use_sim_time": simulated_time,
            }
        ],
        on_exit=Shutdown(reason="the recorder ended"),
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
                "use_sim_time": simulated_time,
            }
        ],
        on_exit=Shutdown(reason="the scripted operator is done"),
        condition=IfCondition(EqualsSubstitution(LaunchConfiguration("operator"), "scripted")),
    )
    return LaunchDescription([*arguments, discovery, robot, recorder, operator])
