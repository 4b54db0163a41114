"""Serve a tiny random model on a free port, printed on the first line. Usage: tiny_server.py [token]."""

import asyncio
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny import tiny_checkpoint

from robosteer_model.policy import Policy
from robosteer_model.serving.server import PolicyServer


class HeldPolicy:
    """The tiny policy; the prompt "hold" keeps inference busy until a line arrives on standard input."""

    def __init__(self) -> None:
        self.policy = Policy(tiny_checkpoint())
        self.policy.warm_up()
        self.released = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        sys.stdin.readline()
        self.released.set()

    def infer(self, raw_observation: Mapping[str, Any]) -> dict[str, Any]:
        if raw_observation.get("prompt") == "hold":
            print("holding", flush=True)
            self.released.wait()
        return self.policy.infer(raw_observation)


async def main() -> None:
    held = HeldPolicy()
    token = sys.argv[1] if len(sys.argv) > 1 else None
    layout, metadata = held.policy.transforms.layout, held.policy.metadata
    async with PolicyServer(held, layout, metadata=metadata, port=0, token=token).listen() as port:
        print(port, flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
