"""Node parameters: from dictionaries, substitutions and files to what a node reads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import yaml

from robosteer_bringup.launcher.context import LaunchContext
from robosteer_bringup.launcher.errors import LaunchError, UnsupportedConstructError, refuse_keywords
from robosteer_bringup.launcher.substitutions import SomeSubstitutions, Substitution, as_bool, perform

Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | list[Scalar]


class ParameterValue:
    """A parameter value whose type is stated instead of guessed from its text."""

    def __init__(
        self, value: SomeSubstitutions | Scalar, *, value_type: type[Scalar] | None = None, **unsupported: object
    ) -> None:
        refuse_keywords("ParameterValue", unsupported)
        if value_type not in (None, bool, int, float, str):
            raise UnsupportedConstructError(f"ParameterValue(value_type={value_type})")
        self.value = value
        self.value_type = value_type

    def evaluate(self, context: LaunchContext) -> Value:
        """Return the value in its stated type.

        Raises:
            LaunchError: if the text cannot be read as that type.
        """
        if isinstance(self.value, bool | int | float):
            return self.value
        text = perform(context, cast("SomeSubstitutions", self.value))
        if self.value_type is None:
            return from_yaml(text)
        if self.value_type is bool:
            return as_bool(text, "parameter of type bool")
        try:
            return self.value_type(text)
        except ValueError as error:
            raise LaunchError(f"parameter: found {text!r}, expected {self.value_type.__name__}") from error


class ParameterFile:
    """A parameter file."""

    def __init__(self, param_file: SomeSubstitutions, **unsupported: object) -> None:
        refuse_keywords("ParameterFile", unsupported)
        self.path = param_file


SomeParameters: TypeAlias = "Iterable[Mapping[Any, Any] | ParameterFile | SomeSubstitutions]"


def from_yaml(text: str) -> Value:
    """Read a substituted text by YAML's rules: `3` is an integer, `true` a truth value.

    Raises:
        LaunchError: if the text is no scalar and no list of scalars of one type.
    """
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise LaunchError(f"parameter: found {text!r}, expected YAML; state its type with ParameterValue") from error
    if isinstance(value, list):
        return _uniform(value)
    if not isinstance(value, bool | int | float | str):
        raise LaunchError(f"parameter: found {text!r}, expected a number, a truth value, a text or a list of these")
    return value


def evaluate_dictionary(context: LaunchContext, parameters: Mapping[Any, Any], prefix: str = "") -> dict[str, Value]:
    """Return parameter values by name; nested dictionaries are joined with dots.

    Args:
        context: Where substitutions are performed.
        parameters: Names (text or substitutions) to values: numbers, texts, lists, substitutions,
            ParameterValue or further dictionaries. Fixed texts stay texts, substituted ones follow YAML.
        prefix: Put before every name.
    """
    values: dict[str, Value] = {}
    for key, value in parameters.items():
        name = prefix + perform(context, key)
        if isinstance(value, Mapping):
            values |= evaluate_dictionary(context, value, f"{name}.")
        else:
            values[name] = _evaluate(context, name, value)
    return values


def _evaluate(context: LaunchContext, name: str, value: Any) -> Value:
    if isinstance(value, ParameterValue):
        return value.evaluate(context)
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Substitution):
        return from_yaml(perform(context, value))
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        if any(isinstance(item, Substitution) for item in value):
            return from_yaml(perform(context, cast("SomeSubstitutions", value)))
        return _uniform(value)
    raise LaunchError(f"parameter {name}: found {value!r}, expected a number, a text, a list or a substitution")


def _uniform(values: Sequence[Any]) -> list[Scalar]:
    kinds = {type(item) for item in values}
    if kinds == {int, float}:
        return [float(item) for item in values]
    if len(kinds) != 1 or not kinds <= {bool, int, float, str}:
        raise LaunchError(f"parameter: found list {list(values)!r}, expected one type for all its items")
    return list(values)


def write_parameter_file(key: str, values: Mapping[str, Value], directory: Path | None = None) -> Path:
    """Write parameters into a temporary file in ROS's layout.

    Args:
        key: Fully qualified node name, or `/**` for any node.
        values: Parameter values by name.
        directory: Where to put the file; None means the system's temporary directory.

    Returns:
        The file. It must live as long as the node, which may read it late.
    """
    with tempfile.NamedTemporaryFile("w", prefix="launch_params_", dir=directory, delete=False) as file:
        yaml.safe_dump({key: {"ros__parameters": dict(values)}}, file, default_flow_style=False)
    return Path(file.name)
