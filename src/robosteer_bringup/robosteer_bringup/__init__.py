"""All together: launch files, the launcher, the robosteer command, parameters, rig files and layouts."""
