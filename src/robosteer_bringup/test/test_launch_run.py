"""The launcher at work, with real processes.

Pins: lines without their process's prefix; a Ctrl-C that reaches children twice (terminal and launcher); a process that
ignores SIGINT and stays; a grandchild that outlives its parent and keeps a robot moving; exit code 0 after a process
died; a launch file's error that leaves processes behind; a shutdown that does not stop the newest process first.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.output import LineSplitter

# A program that says when it is ready (creates $READY) and what stops it.
STOPPABLE = """
trap 'echo got SIGINT; {on_int}' INT
trap 'echo got SIGTERM; exit 0' TERM
: > "$1"
while :; do sleep 0.02; done"""
# A second signal within half a second of the first would be counted too.
COUNTS_SIGNALS = """
trap 'count=$((count + 1))' INT TERM
: > "$1"
while [ -z "$count" ]; do sleep 0.02; done
sleep 0.5 & wait $!; wait $!
echo "signals: $count"
"""
WAIT_FOR = 'while [ ! -e "$1" ]; do sleep 0.02; done'


def node(name: str, *arguments: object, extra: str = "") -> str:
    words = ", ".join(repr(str(argument)) for argument in arguments)
    return f'Node(package="demo", executable="{name}", output="screen", arguments=[{words}], {extra})'


def lines_of(lines: list[str], name: str) -> list[str]:
    return [line.removeprefix(f"[{name}] ") for line in lines if line.startswith(f"[{name}] ")]


def test_output_is_prefixed_line_by_line_and_exit_is_zero(bench) -> None:
    bench.program("talk", "printf 'one\\ntwo'; echo three >&2")
    code, lines = bench.run(node("talk"))
    assert code == 0
    assert sorted(lines_of(lines, "talk-1")) == ["one", "three", "two"]
    assert any(line.startswith("[INFO] [talk-1]: process started with pid [") for line in lines)
    assert any(line.startswith("[INFO] [talk-1]: process has finished cleanly") for line in lines)


def test_output_log_keeps_stdout_in_the_log_file(bench) -> None:
    bench.program("talk", "echo quiet; echo loud >&2")
    code, lines = bench.run('Node(package="demo", executable="talk")')
    assert (code, lines_of(lines, "talk-1")) == (0, ["loud"])
    [log] = (bench.root / "log").rglob("launch.log")
    assert "[talk-1] quiet" in log.read_text()


def test_arguments_parameters_and_environment_reach_the_process(bench) -> None:
    bench.program("show", 'echo "$FOO"; for word in "$@"; do [ -f "$word" ] && cat "$word"; done')
    show = node("show", extra='parameters=[{"a": 1}]')
    code, lines = bench.run(f'SetEnvironmentVariable("FOO", "bar"), {show}')
    assert (code, lines_of(lines, "show-1")) == (0, ["bar", "/**:", "  ros__parameters:", "    a: 1"])


def test_a_process_that_dies_makes_exit_code_one(bench) -> None:
    bench.program("fail", "exit 3")
    code, lines = bench.run(node("fail"))
    assert code == 1
    assert any("[ERROR] [fail-1]: process has died" in line and "exit code 3" in line for line in lines)


def test_a_program_that_cannot_be_started_makes_exit_code_one(bench) -> None:
    code, lines = bench.run('ExecuteProcess(cmd=["/no/such/program"])')
    assert code == 1
    assert any("cannot start /no/such/program: No such file" in line for line in lines)


def test_on_exit_shutdown_stops_the_others_with_sigint_newest_first(bench) -> None:
    bench.program("stay", STOPPABLE.format(on_int="exit 0"))
    bench.program("wait", f"{WAIT_FOR}; shift; {WAIT_FOR}")
    ready = [bench.root / "a", bench.root / "b"]
    code, lines = bench.run(
        f"{node('stay', ready[0])}, {node('stay', ready[1])}, {node('wait', *ready, extra='on_exit=Shutdown()')}"
    )
    assert code == 0
    assert lines_of(lines, "stay-1") == lines_of(lines, "stay-2") == ["got SIGINT"]
    signals = [line for line in lines if "sending signal 'SIGINT'" in line]
    assert [line.split("]")[1][2:] for line in signals] == ["stay-2", "stay-1"]


def test_registered_handlers_answer_their_own_process_only(bench) -> None:
    code, lines = bench.run(
        f"""RegisterEventHandler(OnProcessExit(target_action=(first := {node("node", "first")}),
            on_exit=[LogInfo(msg="first is over"), {node("other", "second")}])),
        RegisterEventHandler(OnProcessStart(on_start=lambda event, _: LogInfo(msg="start " + event.process_name))),
        RegisterEventHandler(OnProcessExit(on_exit=LogInfo(msg="only once"), handle_once=True)),
        RegisterEventHandler(OnShutdown(on_shutdown=LogInfo(msg="stopping"))), first"""
    )
    said = [line.removeprefix("[INFO] [launch.user]: ") for line in lines if "launch.user" in line]
    assert code == 0
    assert sorted(said) == ["first is over", "only once", "start node-1", "start other-2", "stopping"]


def test_timer_and_emit_event(bench) -> None:
    bench.program("stay", STOPPABLE.format(on_int="exit 0"))
    code, lines = bench.run(
        f"""TimerAction(period=0.05, actions=[LogInfo(msg="time"), EmitEvent(event=events.Shutdown(reason="enough"))]),
        TimerAction(period=3600.0, actions=[LogInfo(msg="never")]),
        RegisterEventHandler(OnShutdown(on_shutdown=LogInfo(msg="stopping"))), {node("node")}"""
    )
    assert code == 0
    assert [line for line in lines if "launch.user" in line] == [
        "[INFO] [launch.user]: time",
        "[INFO] [launch.user]: stopping",
    ]


def test_a_process_that_ignores_sigint_gets_sigterm_then_sigkill(bench) -> None:
    bench.program("deaf", STOPPABLE.format(on_int=":"))
    bench.program("stone", "trap '' INT TERM; : > \"$1\"; while :; do sleep 0.02; done")
    bench.program("wait", f"{WAIT_FOR}; shift; {WAIT_FOR}")
    ready = [bench.root / "a", bench.root / "b"]
    code, lines = bench.run(
        f"{node('deaf', ready[0])}, {node('stone', ready[1])}, {node('wait', *ready, extra='on_exit=Shutdown()')}",
        "sigterm_timeout:=0.2",
        "sigkill_timeout:=0.2",
    )
    got = [line for line in lines_of(lines, "deaf-1") if line.startswith("got")]  # The shell may mourn its sleep.
    assert got == ["got SIGINT", "got SIGTERM"]
    assert any("[stone-2]: still running 0.2 s after SIGTERM, sending SIGKILL" in line for line in lines)
    assert any("[stone-2]: process has died" in line and "exit code -9" in line for line in lines)
    assert code == 1


def test_grandchildren_do_not_outlive_their_process(bench) -> None:
    bench.program("parent", 'sleep 3600 & echo $! > "$1"')
    pid_file = bench.root / "pid"
    code, _ = bench.run(node("parent", pid_file))
    assert code == 0
    status = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    deadline = time.monotonic() + 30.0
    while alive(status):
        assert time.monotonic() < deadline, "the grandchild still runs"
        time.sleep(0.02)


def alive(status: Path) -> bool:
    """Whether a process is neither gone nor a zombie that waits for its new parent to collect it."""
    try:
        return status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_error_in_a_later_action_starts_nothing_and_is_raised(bench) -> None:
    with pytest.raises(LaunchError, match="found no executable 'missing'"):
        bench.run(f"{node('node')}, {node('missing')}")
    assert "process started" not in bench.capsys.readouterr().out


def test_an_error_in_a_handler_stops_the_running_processes(bench) -> None:
    bench.program("stay", STOPPABLE.format(on_int="exit 0"))
    bench.program("wait", WAIT_FOR)
    ready = bench.root / "a"
    with pytest.raises(LaunchError, match="found no executable 'missing'"):
        bench.run(f"{node('stay', ready)}, {node('wait', ready, extra='on_exit=' + node('missing'))}")
    assert "[stay-1] got SIGINT" in bench.capsys.readouterr().out


def test_a_handler_function_that_fails_stops_the_running_processes(bench) -> None:
    bench.program("stay", STOPPABLE.format(on_int="exit 0"))
    bench.program("wait", WAIT_FOR)
    ready = bench.root / "a"
    with pytest.raises(LaunchError, match="OnProcessExit handler: ZeroDivisionError"):
        bench.run(f"{node('stay', ready)}, {node('wait', ready, extra='on_exit=lambda event, _: 1 / 0')}")
    assert "[stay-1] got SIGINT" in bench.capsys.readouterr().out


def test_a_reader_that_goes_away_stops_the_launch(bench) -> None:
    bench.program("stay", STOPPABLE.format(on_int="exit 0"))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "robosteer_bringup.cli", "launch", "--builtin"]
    path = bench.file(node("stay", bench.root / "a"))
    done = subprocess.run([*command, str(path)], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert done.stderr == b""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_the_terminal_reaches_each_process_once(bench, signum: signal.Signals) -> None:
    bench.program("stay", COUNTS_SIGNALS)
    ready = bench.root / "a"
    path = bench.file(node("stay", ready))
    launch = subprocess.Popen(
        [sys.executable, "-m", "robosteer_bringup.cli", "launch", "--builtin", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert launch.stdout is not None
    deadline = threading.Timer(60.0, launch.kill)
    deadline.start()
    try:
        seen = []
        for line in launch.stdout:
            seen.append(line.rstrip())
            if "process started" in line:
                _wait_for(ready)
                os.killpg(launch.pid, signum)  # What a terminal does to its foreground group on Ctrl-C.
        _, complaint = launch.communicate()
    finally:
        deadline.cancel()
    assert launch.returncode == 0, complaint
    assert lines_of(seen, "stay-1")[-1:] == ["signals: 1"]
    assert any(f"interrupted by {signum.name}" in line for line in seen)
    assert complaint == ""


def _wait_for(path: Path) -> None:
    subprocess.run(["sh", "-c", WAIT_FOR, "sh", str(path)], check=True, timeout=60)


def test_entry_points_run_where_no_lib_directory_has_the_executable(bench) -> None:
    code, lines = bench.run(
        'Node(package="robosteer_bringup", executable="robosteer", arguments=["--version"], output="screen")'
    )
    # A node's --ros-args follow; the command line ignores what stands after --version.
    assert code == 0
    assert lines_of(lines, "robosteer-1")[0].startswith("robosteer ")


def test_line_splitter_keeps_unfinished_lines_and_bad_bytes() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a\nb") == ["a"]
    assert splitter.feed(b"c\r\n\xff") == ["bc"]
    assert splitter.finish() == ["\ufffd"]
    assert splitter.finish() == []
