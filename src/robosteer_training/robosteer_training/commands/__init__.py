"""Subcommands of `robosteer`, one module each."""
