"""Build frozen dataclasses from plain YAML or JSON data, with an error that names the field."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

from robosteer_rig.errors import RobosteerError

T = TypeVar("T")
MAX_SHOWN = 60  # An error stays one readable line whatever the input holds.


class FieldError(RobosteerError):
    """One field with a wrong value.

    Attributes:
        path: dotted path of the field, for example "cameras.wrist.width".
        problem: what was found, what was expected and what to do.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}" if path else problem)

    def under(self, parent: str) -> FieldError:
        """The same error seen from the object that holds `parent`."""
        return FieldError(f"{parent}.{self.path}" if self.path else parent, self.problem)


def show(value: object) -> str:
    """A short one-line rendering of anything."""
    text = " ".join(repr(" ".join(value.split()) if isinstance(value, str) else value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def require(condition: bool, path: str, found: object, expected: str, advice: str = "") -> None:
    """Raise a `FieldError` unless `condition` holds."""
    if not condition:
        raise FieldError(path, f"found {show(found)}, expected {expected}" + (f"; {advice}" if advice else ""))


def build(cls: type[T], data: object) -> T:
    """Build a dataclass from nested plain data, strictly.

    Args:
        cls: a dataclass whose annotations are str, bool, int, float, Literal, tuple[X, ...], dict[str, X],
            dataclasses or `X | None`.
        data: a mapping with exactly the fields of `cls`; fields with a default may be left out.

    Raises:
        FieldError: for a missing, unknown or wrongly typed field; the path is relative to `cls`.
    """
    require(isinstance(data, dict), "", data, f"a mapping with the fields of {cls.__name__}")
    mapping = typing.cast("dict[Any, Any]", data)
    fields = {f.name: f for f in dataclasses.fields(typing.cast("Any", cls))}
    hints = typing.get_type_hints(cls)
    for key in mapping:
        if key not in fields:
            raise FieldError(str(key)[:MAX_SHOWN], f"found an unknown field, expected one of {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = convert(hints[name], mapping[name], name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise FieldError(name, f"found nothing, expected {describe(hints[name])}; add the field")
    return cls(**values)


def convert(hint: Any, value: object, path: str) -> Any:
    """Check `value` against a type hint and return it in canonical form (tuples, floats)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = next(a for a in arguments if a is not type(None))
        return None if value is None else convert(inner, value, path)
    if dataclasses.is_dataclass(hint):
        try:
            return build(typing.cast("type[Any]", hint), value)
        except FieldError as error:
            raise error.under(path) from None
    if origin is tuple:
        require(isinstance(value, (list, tuple)), path, value, describe(hint))
        items = typing.cast("list[object]", value)
        return tuple(convert(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        require(isinstance(value, dict), path, value, describe(hint))
        entries = typing.cast("dict[object, object]", value)
        for key in entries:
            require(isinstance(key, str), path, key, "text as key")
        return {str(key): convert(arguments[1], item, f"{path}.{key}") for key, item in entries.items()}
    return _scalar(hint, origin, arguments, value, path)


def _scalar(hint: Any, origin: Any, arguments: tuple[Any, ...], value: object, path: str) -> Any:
    if origin is typing.Literal:
        require(value in arguments, path, value, f"one of {', '.join(map(str, arguments))}")
        return value
    if hint is float:
        # A boolean is an int to Python; `width: yes` in YAML must still be refused.
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(is_number and math.isfinite(typing.cast("float", value)), path, value, "a finite number")
        return float(typing.cast("float", value))
    if hint is int:
        require(isinstance(value, int) and not isinstance(value, bool), path, value, "a whole number")
        return value
    require(isinstance(value, hint), path, value, describe(hint))
    return value


def describe(hint: Any) -> str:
    """Say a type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return describe(next(a for a in arguments if a is not type(None))) + " or nothing"
    if origin is tuple:
        return f"a list, each entry {describe(arguments[0])}"
    if origin is dict:
        return f"a mapping from names, each entry {describe(arguments[1])}"
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(hint, f"a mapping with the fields of {getattr(hint, '__name__', hint)}")


def plain(value: object) -> Any:
    """The inverse of `build`: nested dicts, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
