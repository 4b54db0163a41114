"""Short names for the launch files of robosteer_bringup."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from robosteer_bringup.launcher import command


def simulate(argv: Sequence[str]) -> int:
    """Start the simulated cell."""
    return _launch("simulate", argv, 'task:="pick up green cube"')


def record(argv: Sequence[str]) -> int:
    """Record demonstrations."""
    return _launch("record", argv, 'sim:=true operator:=scripted out:=demos task:="pick up green cube" episodes:=10')


def deploy(argv: Sequence[str]) -> int:
    """Let a policy act."""
    return _launch(
        "deploy",
        argv,
        'sim:=true checkpoint:=runs/first/checkpoint instruction:="pick up green cube" auto_enable:=true',
    )


def _launch(name: str, argv: Sequence[str], example: str) -> int:
    parser = _parser(name, example)
    given = parser.parse_intermixed_args(argv)
    options = [f"--{option.replace('_', '-')}" for option in ("show_args", "dry_run", "builtin") if vars(given)[option]]
    if given.help:
        print(parser.format_help())
        options = ["--builtin", "--show-args"]
    return command.main([*options, "robosteer_bringup", f"{name}.launch.py", *given.arguments], f"robosteer {name}")


def _parser(name: str, example: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"robosteer {name}",
        description=f"Short for: robosteer launch robosteer_bringup {name}.launch.py",
        epilog=f"example: robosteer {name} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("arguments", nargs="*", metavar="name:=value", help="arguments of the launch file, see below")
    parser.add_argument("-h", "--help", action="store_true", help="show this help, arguments included, and stop")
    command.add_options(parser)
    return parser
