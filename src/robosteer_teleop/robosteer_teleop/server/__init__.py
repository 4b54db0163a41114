"""The operator's server: page, pairing, one operator, observers, pose frames in, state and images out. No ROS."""
