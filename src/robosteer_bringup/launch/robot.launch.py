"""The robot's side, simulated or real, and the guard in front of it. Included by record and deploy."""

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
    AndSubstitution,
    EnvironmentVariable,
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
        # Required on hardware only: a velocity step at 15 Hz trips a Franka whose controller does not limit
        # acceleration and jerk, and no program here can see that from outside.
        DeclareLaunchArgument(
            "rate_limiter_proved",
            choices=["true"],
            description="true: you have checked that the velocity controller limits acceleration and jerk",
            condition=UnlessCondition(sim),
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
    guard = Node(
        package="robosteer_policy",
        executable="guard",
        output="screen",
        parameters=[
            {
                "rig": ParameterValue(LaunchConfiguration("rig"), value_type=str),
                "source": ParameterValue(LaunchConfiguration("source"), value_type=str),
                "auto_arm": ParameterValue(AndSubstitution(sim, LaunchConfiguration("auto_arm")), value_type=bool),
                "use_sim_time": ParameterValue(LaunchConfiguration("publish_clock", default="false"), value_type=bool),
            }
        ],
        on_exit=Shutdown(reason="the guard ended"),
    )
    return LaunchDescription([*arguments, discovery, simulation, drivers, guard])
