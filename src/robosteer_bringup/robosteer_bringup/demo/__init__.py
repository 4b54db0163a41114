"""`robosteer demo`: the whole loop in simulation, made of the same commands that a user types."""
