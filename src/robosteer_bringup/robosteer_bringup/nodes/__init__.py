"""What needs ROS."""
