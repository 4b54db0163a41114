"""Short names for the launch files of robosteer_bringup."""

from collections.abc import Sequence

from robosteer_bringup.launcher import command


def simulate(argv: Sequence[str]) -> int:
    """Start the simulated cell."""
    return _launch("simulate", argv)


def record(argv: Sequence[str]) -> int:
    """Record demonstrations."""
    return _launch("record", argv)


def deploy(argv: Sequence[str]) -> int:
    """Let a policy act."""
    return _launch("deploy", argv)


def _launch(name: str, argv: Sequence[str]) -> int:
    if any(word in ("-h", "--help") for word in argv):
        argv = ["--show-args"]
    options = [word for word in argv if word.startswith("-")]
    words = [word for word in argv if not word.startswith("-")]
    return command.main([*options, "robosteer_bringup", f"{name}.launch.py", *words], prog=f"robosteer {name}")
