"""Ctrl-C and SIGTERM at any moment.

Pins: a traceback because Ctrl-C came while a command, a node or `robosteer` itself was still importing its modules, or
when it had finished; a Ctrl-C that is lost in a callback of the garbage collector; a node whose end by Ctrl-C its
launcher counts as a death; an ignored signal that is listened to; SIGTERM
that kills a command where Ctrl-C would have let it save; a second SIGTERM that cuts that short.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

INTERRUPT = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
BODIES = {
    "while its module is imported": f"{INTERRUPT}\ndef main(argv=()): pass",
    "while it runs": "def main(argv=()):\n    import os, signal\n    os.kill(os.getpid(), signal.SIGINT)",
    "while garbage is collected": "import gc, os, signal, time\n\n"
    "def main(argv=()):\n"
    "    gc.callbacks.append(lambda *_: (gc.callbacks.clear(), os.kill(os.getpid(), signal.SIGINT)))\n"
    "    gc.collect()\n    time.sleep(60)",
    "at the end": "import atexit\nimport os, signal\n\n"
    "def main(argv=()):\n    atexit.register(os.kill, os.getpid(), signal.SIGINT)",
}
ROBOSTEER = "import sys; from robosteer_bringup.entry import main; sys.exit(main())"
NODE = "import sys; from robosteer_bringup.launcher.run_entry_point import main; sys.exit(main())"


def run(place: Path, program: str, *words: str, body: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program beside an installed package `probe` with a command and an executable of that name."""
    (place / "probe_module.py").write_text(body)
    record = place / "probe-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(
        "[robosteer.commands]\nprobe = probe_module:main\n[console_scripts]\nprobe = probe_module:main\n"
    )
    start = f"import sys; sys.path.insert(0, {str(place)!r}); {program}"
    return subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("when", BODIES)
def test_a_command_ends_without_a_traceback(when: str, tmp_path: Path) -> None:
    done = run(tmp_path, ROBOSTEER, "probe", body=BODIES[when])
    told = "robosteer probe: interrupted\n"
    expected = (130, told) if when in ("while it runs", "while garbage is collected") else (-signal.SIGINT, "")
    assert (done.returncode, done.stderr) == expected


def test_robosteer_itself_ends_without_a_traceback_while_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "difflib.py").write_text(INTERRUPT)
    done = run(tmp_path, ROBOSTEER, "probe")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_robosteer_itself_ends_without_a_traceback_while_it_looks_for_commands(tmp_path: Path) -> None:
    looking = "import importlib.metadata as m, os; m.entry_points = lambda **_: os.kill(os.getpid(), 2)"
    done = run(tmp_path, f"{looking}; {ROBOSTEER}", "probe")
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("when", ["while its module is imported", "while it runs"])
def test_a_node_ends_by_the_signal_as_a_launcher_expects(when: str, tmp_path: Path) -> None:
    done = run(tmp_path, NODE, "probe", "probe", body=BODIES[when])
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


CLEARING_UP = """def main(argv=()):
    import os, signal
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("cleared up")
"""


@pytest.mark.parametrize("start", ["", "import signal; signal.signal(2, signal.SIG_IGN); "])
def test_sigterm_is_another_ctrl_c_also_where_that_is_ignored(start: str, tmp_path: Path) -> None:
    done = run(tmp_path, f"{start}{ROBOSTEER}", "probe", body=CLEARING_UP)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "cleared up\n")
    assert done.stderr == "robosteer probe: terminated\n"


def test_sigterm_ends_an_import_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, ROBOSTEER, "probe", body=BODIES["while its module is imported"].replace("SIGINT", "SIGTERM"))
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


def test_a_command_with_a_handler_of_its_own_keeps_it(tmp_path: Path) -> None:
    """Launchers and nodes have one."""
    own = "signal.signal(signal.SIGTERM, lambda *_: print('mine'))"
    body = f"def main(argv=()):\n    import os, signal\n    {own}\n    os.kill(os.getpid(), signal.SIGTERM)"
    done = run(tmp_path, ROBOSTEER, "probe", body=body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As for a job in the background of a shell script."""
    body = BODIES["while its module is imported"]
    done = run(tmp_path, f"import signal; signal.signal(2, signal.SIG_IGN); {ROBOSTEER}", "probe", body=body)
    assert (done.returncode, done.stderr) == (0, "")
