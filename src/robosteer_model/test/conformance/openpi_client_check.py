"""Talk to our policy server with openpi's own client. Runs outside our environment, see README.md."""

import pathlib
import secrets
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import websockets.exceptions
from openpi_client import image_tools, msgpack_numpy
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

HERE = pathlib.Path(__file__).parent
TOKEN = secrets.token_hex(16)


def observation(prompt="pick up the red cube"):
    rng = np.random.default_rng(0)
    return {
        "observation/exterior_image_1_left": rng.integers(0, 256, (28, 28, 3), np.uint8),
        "observation/wrist_image_left": rng.integers(0, 256, (28, 28, 3), np.uint8),
        "observation/joint_position": rng.uniform(-1, 1, 7),
        "observation/gripper_position": np.float32(0.5),
        "prompt": prompt,
    }


def check(name, ok):
    print(f"{name}: {'ok' if ok else 'FAILED'}", flush=True)
    if not ok:
        sys.exit(1)


def healthy(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as answer:
        return answer.status == 200 and answer.read() == b"OK\n"


def check_inference(port):
    policy = WebsocketClientPolicy("127.0.0.1", port, api_key=TOKEN)
    check("metadata", policy.get_server_metadata()["model_type"] == "pi05")
    first, second = policy.infer(observation()), policy.infer(observation())
    check("actions", first["actions"].shape == (5, 8) and first["actions"].dtype == np.float64)
    check("noise differs per call", not np.array_equal(first["actions"], second["actions"]))
    check("timing", first["policy_timing"]["infer_ms"] > 0 and first["server_timing"]["infer_ms"] > 0)
    check("prev_total_ms from the second answer on", "prev_total_ms" in second["server_timing"])
    check("no prev_total_ms in the first", "prev_total_ms" not in first["server_timing"])
    broker = ActionChunkBroker(policy, 3)
    rows = [broker.infer(observation())["actions"] for _ in range(4)]
    check("action chunk broker", all(row.shape == (8,) for row in rows))


def check_errors(port):
    bad = observation()
    del bad["prompt"]
    policy = WebsocketClientPolicy("127.0.0.1", port, api_key=TOKEN)
    try:
        policy.infer(bad)
        reason = ""
    except RuntimeError as error:
        reason = str(error)
    check("an error arrives as RuntimeError", "prompt: found NoneType" in reason)
    check("without a traceback", "Traceback" not in reason and ".py" not in reason)
    try:
        WebsocketClientPolicy("127.0.0.1", port, api_key="wrong")
        refused = False
    except websockets.exceptions.InvalidStatus as error:
        refused = error.response.status_code == 401
    check("a wrong key is refused", refused)


def check_health_during_inference(port, server):
    policy = WebsocketClientPolicy("127.0.0.1", port, api_key=TOKEN)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(policy.infer(observation("hold"))))
    thread.start()
    check("inference is running", server.stdout.readline().strip() == "holding")
    check("health answers during inference", healthy(port) and not answers)
    server.stdin.write("\n")
    server.stdin.flush()
    thread.join(timeout=60)
    check("and the answer arrives after it", len(answers) == 1)


def check_shared_formats():
    golden = np.load(HERE.parent / "golden" / "shared_units.npz")
    message = msgpack_numpy.unpackb(golden["msgpack/bytes"].tobytes())
    check("openpi reads the golden message", message["nested"]["flag"] is True)
    image = golden["resize/0/image_uint8"]
    height, width = (int(n) for n in golden["resize/0/target_hw"])
    resized = image_tools.resize_with_pad(image, height, width)
    check("its image resize is the golden one", np.array_equal(resized, golden["resize/0/pil_uint8"]))


def main():
    command = [sys.argv[1], str(HERE / "tiny_server.py"), TOKEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline())
            check("health", healthy(port))
            check_inference(port)
            check_errors(port)
            check_health_during_inference(port, server)
            check_shared_formats()
        finally:
            server.terminate()
    print("openpi-client conforms")


if __name__ == "__main__":
    main()
