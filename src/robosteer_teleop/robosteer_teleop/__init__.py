"""How it is shown: teleoperation and the crash-safe episode recorder."""
