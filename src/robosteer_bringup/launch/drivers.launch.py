"""Drivers of a real cell: Franka Research 3, Robotiq 2F-85 and three ZED 2i. Needs a ROS 2 installation.

Each driver is its vendor's own launch file. Not needed where the drivers already run, on this or another computer.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

CAMERAS = ("wrist", "left", "right")


def vendor_file(package: str, name: str, **arguments: object) -> GroupAction:
    """Include a vendor's launch file without letting its arguments out."""
    path = PathJoinSubstitution([FindPackageShare(package), "launch", name])
    source = PythonLaunchDescriptionSource(path)
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))])


def generate_launch_description() -> LaunchDescription:
    """Declare the addresses and include the vendors' launch files."""
    share = FindPackageShare("robosteer_bringup")
    arguments = [
        DeclareLaunchArgument("robot_ip", default_value="172.16.0.2", description="address of the Franka controller"),
        DeclareLaunchArgument("robot_type", default_value="fr3", description="robot type of franka_bringup"),
        DeclareLaunchArgument("gripper_port", default_value="/dev/ttyUSB0", description="serial port of the Robotiq"),
        *(
            DeclareLaunchArgument(f"{camera}_serial", default_value="0", description=f"ZED serial, {camera} camera")
            for camera in CAMERAS
        ),
    ]
    arm = vendor_file(
        "franka_bringup",
        "franka.launch.py",
        robot_ip=LaunchConfiguration("robot_ip"),
        robot_type=LaunchConfiguration("robot_type"),
        load_gripper="false",
        controllers_yaml=PathJoinSubstitution([share, "config", "controllers", "fr3.yaml"]),
    )
    spawner = Node(
        package="controller_manager", executable="spawner", arguments=["joint_velocity_controller"], output="screen"
    )
    gripper = vendor_file("robotiq_control", "robotiq_control.launch.py", com_port=LaunchConfiguration("gripper_port"))
    cameras = [
        vendor_file(
            "zed_wrapper",
            "zed_camera.launch.py",
            camera_model="zed2i",
            camera_name=camera,
            serial_number=LaunchConfiguration(f"{camera}_serial"),
            publish_tf="false",
            publish_map_tf="false",
        )
        for camera in CAMERAS
    ]
    return LaunchDescription([*arguments, arm, spawner, gripper, *cameras])
