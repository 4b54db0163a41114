"""Subcommands of `robosteer`."""
