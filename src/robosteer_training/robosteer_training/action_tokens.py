"""Where pi0-FAST's action tokens come from: a component that the user names."""

from __future__ import annotations

import importlib
from typing import Any

from robosteer_model.tokenizer_fast import ActionTokens
from robosteer_rig.errors import RobosteerError


def load_action_tokens(name: str | None) -> ActionTokens | None:
    """The user's FAST action tokenizer, `module:attribute`; a class or function is called without arguments.

    Raises:
        RobosteerError: no such module or attribute, or one without encode and decode.
    """
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise RobosteerError(
            f"--action-tokens: cannot find {name!r} ({error}), expected MODULE:NAME of something with encode and decode"
        ) from error
    tokens: Any = found() if callable(found) else found
    if not (hasattr(tokens, "encode") and hasattr(tokens, "decode")):
        raise RobosteerError(f"--action-tokens: found {name!r} without encode and decode, expected both")
    return tokens
