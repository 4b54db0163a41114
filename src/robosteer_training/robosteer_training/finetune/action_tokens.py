"""Where pi0-FAST's action tokens come from: a component that the user names."""

from __future__ import annotations

import importlib

from robosteer_model.tokenizer_fast import ActionTokens
from robosteer_rig.errors import RobosteerError


def load_action_tokens(name: str) -> ActionTokens:
    """Import an action tokenizer.

    Args:
        name: "module:attribute", an object with `encode` and `decode`, or a class or function that makes one.

    Raises:
        RobosteerError: nothing of that name, or something else.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise RobosteerError(f"--action-tokens: cannot import {name!r} ({error}); give module:attribute") from error
    tokens = found() if isinstance(found, type) or not hasattr(found, "encode") else found
    if not (callable(getattr(tokens, "encode", None)) and callable(getattr(tokens, "decode", None))):
        raise RobosteerError(f"--action-tokens: found {name!r} without encode and decode, expected both")
    return tokens
