"""From the hand to the target: pure numpy, with time passed in. No ROS, no sockets, no clock."""
