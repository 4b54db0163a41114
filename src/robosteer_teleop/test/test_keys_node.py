"""The node `keys` in front of a real recorder.

Pins: keys that were typed faster than they are read wait for the next one; a refusal that the operator never sees; a
terminal's node that survives SIGTERM.
"""

import os
import signal
import subprocess
import sys
import threading
import time

from .test_recorder_node import environment, recorder_command, start  # noqa: F401

KEYS_NODE = [sys.executable, "-c", "import sys; from robosteer_teleop.nodes.keys import main; sys.exit(main())"]
DEADLINE_S = 60.0


def test_keys_reach_the_recorder_and_refusals_come_back(environment, start, tmp_path, rig_file):  # noqa: F811
    command = recorder_command(tmp_path / "demos", rig_file, instruction="swing", start_patience_s=0.0)
    recorder = start(command)
    keys = subprocess.Popen(KEYS_NODE, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(keys.stdout.readline, "")), daemon=True)
    reader.start()

    def until(text):
        deadline = time.monotonic() + DEADLINE_S
        while not any(text in line for line in lines):
            assert time.monotonic() < deadline, f"waited for {text!r}, found {lines}"
            assert keys.poll() is None
            assert recorder.poll() is None
            time.sleep(0.02)

    try:
        until("s: start")
        until("idle: episode 0, 0 kept")
        os.write(keys.stdin.fileno(), b"?ks")  # one unknown key, two commands that cannot be obeyed
        until("keep: found state idle")
        until("has no message")
        keys.send_signal(signal.SIGTERM)
        assert keys.wait(timeout=DEADLINE_S) == 0
    finally:
        if keys.poll() is None:
            keys.kill()
        keys.communicate()
        recorder.terminate()
