"""The robot's side, simulated or real, and the guard in front of it. Included by record and deploy."""

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    AndSubstitution,
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


def ours(name: str) -> PythonLaunchDescriptionSource:
    """Return a launch file of this package."""
    return PythonLaunchDescriptionSource(PathJoinSubstitution([FindPackageShare("robosteer_bringup"), "launch", name]))


def generate_launch_description() -> LaunchDescription:
    """Start the cell or the drivers, then the guard."""
    sim = LaunchConfiguration("sim")
    arguments = [
        DeclareLaunchArgument("sim", choices=["true", "false"], description="simulated cell instead of hardware"),
        DeclareLaunchArgument("rig", description="path of the rig file"),
        DeclareLaunchArgument("source", choices=["teleop", "policy"], description="who may move the arm"),
        DeclareLaunchArgument(
            "auto_arm",
            default_value="false",
            choices=["true", "false"],
            description="arm the guard by itself; simulation only",
        ),
        DeclareLaunchArgument(
            "drivers",
            default_value="true",
            choices=["true", "false"],
            description="with sim:=false, start the drivers too; false where they run already",
        ),
        DeclareLaunchArgument(
            "mode",
            default_value="joint_velocity",
            choices=["joint_velocity", "joint_impedance"],
            description="what the arm's controller takes from the guard",
        ),
        DeclareLaunchArgument(
            "mode",
            choices=["joint_velocity"],
            description="the simulated cell takes joint velocities",
            condition=IfCondition(sim),
        ),
        DeclareLaunchArgument(
            "target_topic", default_value="/target_joint", description="topic of the targets of joint_impedance"
        ),
        # A velocity step trips a Franka whose controller does not limit acceleration and jerk.
        DeclareLaunchArgument(
            "limiter_proof",
            default_value="/controller_manager:enforce_command_limits=true",
            description="/node:parameter=value ... that the guard must read back before it arms; hardware only",
        ),
        DeclareLaunchArgument(
            "watchdog",
            default_value="true",
            choices=["true", "false"],
            description="with sim:=false, run the watchdog here; false where it runs on the control computer",
        ),
        DeclareLaunchArgument(
            "homing",
            default_value="false",
            choices=["true", "false"],
            description="offer /homing/go, which moves to the home pose while the guard's source is homing",
        ),
        DeclareLaunchArgument(
            "deadman_topic", default_value="", description="std_msgs/Bool that a person keeps true; empty for none"
        ),
    ]
    discovery = SetEnvironmentVariable(
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        EnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", default_value="LOCALHOST"),
        condition=IfCondition(sim),
    )
    # Groups keep the arguments of the included files from leaking into this one.
    simulation = GroupAction([IncludeLaunchDescription(ours("simulate.launch.py"))], condition=IfCondition(sim))
    drivers = GroupAction(
        [IncludeLaunchDescription(ours("drivers.launch.py"))],
        condition=IfCondition(AndSubstitution(NotSubstitution(sim), LaunchConfiguration("drivers"))),
    )
    velocities = EqualsSubstitution(LaunchConfiguration("mode"), "joint_velocity")
    # A velocity controller holds its last command for ever, and nothing outside its process can shape its steps.
    guarded = AndSubstitution(NotSubstitution(sim), velocities)
    watchdog = Node(
        package="robosteer_policy",
        executable="watchdog",
        output="screen",
        parameters=[
            {
                "rig": ParameterValue(LaunchConfiguration("rig"), value_type=str),
                "controller": "joint_velocity_controller",
            }
        ],
        on_exit=Shutdown(reason="the watchdog ended"),
        condition=IfCondition(AndSubstitution(guarded, LaunchConfiguration("watchdog"))),
    )
    simulated_time = ParameterValue(LaunchConfiguration("publish_clock", default="false"), value_type=bool)
    homing = Node(
        package="robosteer_policy",
        executable="homing",
        output="screen",
        parameters=[
            {
                "rig": ParameterValue(LaunchConfiguration("rig"), value_type=str),
                "use_sim_time": simulated_time,
            }
        ],
        condition=IfCondition(LaunchConfiguration("homing")),
    )
    guard = Node(
        package="robosteer_policy",
        executable="guard",
        output="screen",
        parameters=[
            {
                "rig": ParameterValue(LaunchConfiguration("rig"), value_type=str),
                "source": ParameterValue(LaunchConfiguration("source"), value_type=str),
                "auto_arm": ParameterValue(AndSubstitution(sim, LaunchConfiguration("auto_arm")), value_type=bool),
                "mode": ParameterValue(LaunchConfiguration("mode"), value_type=str),
                "target_topic": ParameterValue(LaunchConfiguration("target_topic"), value_type=str),
                "require_watchdog": ParameterValue(guarded, value_type=bool),
                "limiter_proof": ParameterValue(
                    IfElseSubstitution(guarded, LaunchConfiguration("limiter_proof"), ""), value_type=str
                ),
                "deadman_topic": ParameterValue(LaunchConfiguration("deadman_topic"), value_type=str),
                "use_sim_time": simulated_time,
            }
        ],
        on_exit=Shutdown(reason="the guard ended"),
    )
    return LaunchDescription([*arguments, discovery, simulation, drivers, watchdog, guard, homing])
