"""Exchange with LeRobot's dataset formats v2.1 and v3.0, written and read without the lerobot package."""
