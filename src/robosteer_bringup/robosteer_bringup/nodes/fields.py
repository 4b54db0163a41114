"""ROS messages from and to the plain values that YAML knows."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from robosteer_rig.errors import RobosteerError

MOST_ITEMS = 128
"""Items of a sequence that are shown; pictures would fill the screen."""
_NAME = re.compile(r"([a-z][a-z0-9_]*)/(?:(msg|srv)/)?([A-Z][A-Za-z0-9]*)")
_NESTED = re.compile(r"sequence<([a-z][a-z0-9_]*)/([A-Z][A-Za-z0-9]*)(?:, \d+)?>")


def full_name(name: str, kind: str) -> str:
    """A type's whole name.

    Args:
        name: such as std_srvs/srv/SetBool, or short std_srvs/SetBool.
        kind: msg or srv.

    Raises:
        RobosteerError: for another form.
    """
    found = _NAME.fullmatch(name)
    if found is None or found[2] not in (None, kind):
        raise RobosteerError(f"type: found {name!r}, expected a name such as std_{kind}s/{kind}/...; look it up")
    return f"{found[1]}/{kind}/{found[3]}"


def interface(name: str) -> Any:
    """The class of a message or service type, by its whole name.

    Raises:
        RobosteerError: for a type that is not installed.
    """
    package, kind, short = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), short)
    except (ImportError, AttributeError):
        raise RobosteerError(f"type {name}: found none of that name here, expected an installed one") from None


def make(kind: Any, values: Any) -> Any:
    """A message or request with some of its fields set.

    Args:
        kind: its class.
        values: field -> value, as YAML gives them; None or an empty mapping for none.

    Raises:
        RobosteerError: for a field that it does not have, or a value of another type.
    """
    message = _new(kind)
    types = message.get_fields_and_field_types()
    if not isinstance(values or {}, Mapping):
        raise RobosteerError(f"values: found {values!r}, expected {{field: value}} of {_fields(types)}")
    for name, value in (values or {}).items():
        if name not in types:
            raise RobosteerError(f"values: found a field {name!r}, expected one of {_fields(types)}")
        try:
            setattr(message, name, _value(getattr(message, name), types[name], value))
        except (AssertionError, TypeError, ValueError):  # What the generated setters raise.
            raise RobosteerError(f"values: {name}: found {value!r}, expected {types[name]}") from None
    return message


def _new(kind: Any) -> Any:
    """An empty message whose setters check types; by default they do not in the present releases."""
    try:
        return kind(check_fields=True)
    except AssertionError:  # A release that always does, and does not know the option.
        return kind()


def _value(present: Any, type_name: str, value: Any) -> Any:
    """What is set for a value from YAML, in the place of `present`."""
    if hasattr(present, "get_fields_and_field_types"):
        return make(type(present), value)
    if nested := _NESTED.fullmatch(type_name):
        return [make(interface(f"{nested[1]}/msg/{nested[2]}"), item) for item in value or ()]
    if "float" in type_name or "double" in type_name:  # YAML reads 1 as an integer.
        return [_decimal(item) for item in value] if isinstance(value, list) else _decimal(value)
    return value


def _decimal(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def plain(value: Any) -> Any:
    """A message as mappings, lists, numbers and texts; long sequences are cut short."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: plain(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return list(value)
    items = [plain(item.item() if hasattr(item, "item") else item) for item in value[: MOST_ITEMS + 1]]
    return [*items[:MOST_ITEMS], "..."] if len(items) > MOST_ITEMS else items


def _fields(types: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in types.items()) or "no fields"
