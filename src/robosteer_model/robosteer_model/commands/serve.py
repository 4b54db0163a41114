"""Serve a checkpoint to openpi clients over a websocket."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of `robosteer serve`."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Checkpoint directory (the one that holds params/)."""
    config: str | None = None
    """Stock config by openpi's name (pi05_droid, ...); default: the one in robosteer.json."""
    host: str = "127.0.0.1"
    """Address to listen on. Others than loopback need a token; traffic is not encrypted, prefer a SSH tunnel."""
    port: int = 8000
    """TCP port; 0 chooses a free one."""
    token_file: Path | None = None
    """File whose first line clients must send as API key."""
    allow_anonymous: bool = False
    """Listen beyond loopback without a token (only on a network of your own)."""
    num_steps: int = 10
    """Denoising steps per chunk (pi0, pi0.5)."""
    seed: int = 0
    """Seed of the noise."""
    precision: Literal["stock", "float32"] = "stock"
    """Parameters in the model's compute dtype (bfloat16 for released models), or all in float32."""
    prompt: str | None = None
    """Instruction for requests that have none."""
    tokenizer: Path | None = None
    """SentencePiece model; default: the checkpoint's own, else PaliGemma's from the cache."""


def main(argv: list[str]) -> int:
    """Serve until Ctrl-C.

    Raises:
        ModelError: for an unsound checkpoint, a missing tokenizer or a taken port.
    """
    arguments = tyro.cli(Arguments, prog="robosteer serve", description=__doc__, args=argv)
    import asyncio

    from robosteer_model.policy import Policy
    from robosteer_model.serving.server import PolicyServer

    token = read_token(arguments.token_file)
    policy = Policy.load(
        arguments.checkpoint,
        config=arguments.config,
        precision=arguments.precision,
        num_steps=arguments.num_steps,
        seed=arguments.seed,
        tokenizer=arguments.tokenizer,
        default_prompt=arguments.prompt,
    )
    server = PolicyServer(
        policy,
        policy.transforms.layout,
        metadata=policy.metadata,
        host=arguments.host,
        port=arguments.port,
        token=token,
        allow_anonymous=arguments.allow_anonymous,
    )
    print(f"compiling {arguments.checkpoint} ...", flush=True)
    policy.warm_up()

    async def serve() -> None:
        async with server.listen() as port:
            print(f"serving {arguments.checkpoint} on ws://{arguments.host}:{port} (Ctrl-C ends)", flush=True)
            await asyncio.get_running_loop().create_future()

    asyncio.run(serve())
    return 0


def read_token(path: Path | None) -> str | None:
    """The first line of a token file.

    Raises:
        ModelError: when it cannot be read or is empty.
    """
    from robosteer_model.errors import ModelError

    if path is None:
        return None
    try:
        lines = path.read_text().strip().splitlines()
    except OSError as error:
        raise ModelError(f"--token-file: cannot read {path} ({error.strerror}), expected a text file") from None
    except UnicodeDecodeError:
        raise ModelError(f"--token-file: found no text in {path}, expected a text file") from None
    if not lines:
        raise ModelError(f"token file {path}: found it empty, expected a token; make one with `openssl rand -hex 32`")
    return lines[0].strip()
