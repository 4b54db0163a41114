"""`make` and `scripts/setup.sh`, as far as they can be tried without changing the machine.

Pins: recordings deleted by `make clean`; a private uv that survives it; Ubuntu's package `chromium`, which is no
browser.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOLS = ("bash", "basename", "cat", "dirname", "grep", "id", "ln", "mkdir")
DEBIAN = "Package: chromium\nDepends: libc6"
UBUNTU = "Package: chromium\nPre-Depends: snapd"


def make(*words: str) -> str:
    return subprocess.run(["make", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout


def test_help_says_what_is_installed_and_clean_keeps_what_people_made() -> None:
    shown = make("help")
    assert "from apt" in next(line for line in shown.splitlines() if line.startswith("  make setup"))
    removed = make("-n", "clean").split()
    assert {".venv", ".uv"} <= set(removed)
    assert not {"demos", "runs"} & set(removed)


@pytest.fixture
def machine(tmp_path: Path):
    """Run setup.sh on a copy of it, on a machine without a browser whose apt knows what is given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(str(shutil.which(tool)))
    for name in ("src", "scripts", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / "scripts/setup.sh", tmp_path / "scripts")
    scripts = {
        programs / "ldconfig": "echo 'libEGL.so.1 libEGL_mesa'",
        programs / "uv": "exit 0",
        programs / "sudo": '"$@"',
        programs / "apt-get": 'echo "apt-get $*"; [ "$1" = update ] || exit 7',
        tmp_path / ".venv/bin/python": "echo Python",
    }

    def run(known: str) -> subprocess.CompletedProcess[str]:
        apt = f"cat <<'END'\n{known}\nEND" if known else "exit 100"
        for path, script in (scripts | {programs / "apt-cache": apt}).items():
            path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
            path.chmod(0o755)
        return subprocess.run(
            ["bash", tmp_path / "scripts/setup.sh", "--tests"],
            env={**os.environ, "PATH": str(programs)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_debians_browser_is_installed_and_ubuntus_snap_is_not(machine) -> None:
    done = machine(DEBIAN)
    assert (done.returncode, "apt-get install -y -qq --no-install-recommends chromium" in done.stdout) == (7, True)
    for known in (UBUNTU, ""):
        done = machine(known)
        assert (done.returncode, "apt-get install" in done.stdout) == (1, False)
        assert "(https://www.google.com/chrome), or say 'sudo snap install chromium'" in done.stderr
