"""A small, strict launcher for machines without a ROS installation.

It executes the very `*.launch.py` files that `ros2 launch` executes, over a stated subset of the launch API
(`importer.SUBSET`), and refuses every construct outside it by name. Where `launch_ros` is installed the real
`ros2 launch` is used instead.
"""
