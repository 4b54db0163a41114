"""Command line: one line per array, exit status 1 when any misses."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from robosteer_model.errors import ModelError
from robosteer_model.golden.dispatch import check_file, checks, golden_files


def main(argv: list[str]) -> int:
    """Check the files and folders named in `argv`."""
    parser = argparse.ArgumentParser(prog="python -m robosteer_model.golden", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="golden files, or folders of them")
    parser.add_argument("--misses", action="store_true", help="print only arrays that miss their tolerance")
    arguments = parser.parse_args(argv)
    modules = checks()
    compared = missed = 0
    try:
        for path in golden_files(arguments.paths):
            print(f"# {path}")
            for comparison in check_file(path, modules):
                compared += 1
                missed += not comparison.ok
                if not (comparison.ok and arguments.misses):
                    print(comparison.line(), flush=True)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{compared} arrays compared, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
