"""Closed-loop evaluation of checkpoints on reproducible scenes, with confidence intervals."""
