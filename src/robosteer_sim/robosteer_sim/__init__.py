"""Where it can be tried: a MuJoCo Franka cell on the hardware's topics, tasks and a scripted operator."""
