"""The simulated cell alone: arm, gripper, cameras and scene on the topics of the hardware."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from robosteer_bringup.launcher.checks import check_first


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the cell."""
    default_rig = PathJoinSubstitution([FindPackageShare("robosteer_bringup"), "config", "rigs", "sim_panda.yaml"])
    arguments = [
        DeclareLaunchArgument("rig", default_value=default_rig, description="path of the rig file"),
        DeclareLaunchArgument("task", default_value="pick up red cube", description="instruction of the task"),
        DeclareLaunchArgument("grid_cell", default_value="19", description="where the object lies, 0 ... 39"),
        DeclareLaunchArgument(
            "controller",
            default_value="joint_velocity",
            choices=["joint_velocity", "cartesian_impedance"],
            description="of the simulated arm",
        ),
        DeclareLaunchArgument("seed", default_value="0", description="seed of the scene"),
        DeclareLaunchArgument(
            "variation",
            default_value="",
            choices=["", "lighting", "form", "distractors", "camera", "randomised"],
            description="change of the scene's conditions; empty for none",
        ),
        DeclareLaunchArgument(
            "publish_clock",
            default_value="false",
            choices=["true", "false"],
            description="publish /clock; the other nodes then run on simulated time",
        ),
    ]
    # A simulated robot stays on this machine, unless the user says otherwise.
    discovery = SetEnvironmentVariable(
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        EnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", default_value="LOCALHOST"),
    )
    cell = Node(
        package="robosteer_sim",
        executable="cell",
        output="screen",
        parameters=[
            {
                "rig": ParameterValue(LaunchConfiguration("rig"), value_type=str),
                "task": ParameterValue(LaunchConfiguration("task"), value_type=str),
                "grid_cell": ParameterValue(LaunchConfiguration("grid_cell"), value_type=int),
                "controller": ParameterValue(LaunchConfiguration("controller"), value_type=str),
                "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int),
                "variation": ParameterValue(LaunchConfiguration("variation"), value_type=str),
                "publish_clock": ParameterValue(LaunchConfiguration("publish_clock"), value_type=bool),
            }
        ],
        on_exit=Shutdown(reason="the simulated cell ended"),
    )
    first = OpaqueFunction(function=check_first, args=[__file__])
    return LaunchDescription([*arguments, first, discovery, cell])
