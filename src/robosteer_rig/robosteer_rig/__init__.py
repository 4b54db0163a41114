"""What the robot is: the rig contract, units, limits, kinematics, stream alignment and actions."""
