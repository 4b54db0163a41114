"""Shared fixtures: one tiny checkpoint on disk per session."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny import tiny_checkpoint

from robosteer_model.checkpoint import save_checkpoint


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A read-only tiny checkpoint with LoRA; tests that damage it make a copy."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", tiny_checkpoint(lora=True))
