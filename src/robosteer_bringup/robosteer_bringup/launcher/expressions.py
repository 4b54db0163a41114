"""The expressions that PythonExpression may hold: literals, comparison, logic and arithmetic.

The real launch runs any Python here. A launch file needs no more than this, and a text that comes from the
command line must not become code.
"""

import ast
import operator
from collections.abc import Callable
from typing import Any

from robosteer_bringup.launcher.errors import LaunchError, UnsupportedConstructError

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


def evaluate(expression: str) -> Any:
    """Return the value of a literal expression, for example `'a' == 'b' or 2 * 3 > 5`.

    Raises:
        LaunchError: if the text is not an expression or its values do not fit together.
        UnsupportedConstructError: if it holds anything but literals, comparison, logic and arithmetic.
    """
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except SyntaxError as error:
        raise LaunchError(f"PythonExpression: found {expression!r}, expected a Python expression") from error
    except (TypeError, ZeroDivisionError) as error:
        raise LaunchError(f"PythonExpression {expression!r}: {error}") from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.BoolOp):
        return _logic(node)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.Compare):
        return _comparison(node)
    if isinstance(node, ast.IfExp):
        return _value(node.body) if _value(node.test) else _value(node.orelse)
    raise UnsupportedConstructError(f"PythonExpression({ast.unparse(node)})")


def _logic(node: ast.BoolOp) -> Any:
    wanted = isinstance(node.op, ast.Or)
    value: Any = None
    for operand in node.values:
        value = _value(operand)
        if bool(value) is wanted:
            return value
    return value


def _comparison(node: ast.Compare) -> bool:
    left = _value(node.left)
    for sign, operand in zip(node.ops, node.comparators, strict=True):
        right = _value(operand)
        if type(sign) not in _COMPARE:
            raise UnsupportedConstructError(f"PythonExpression({ast.unparse(node)})")
        if not _COMPARE[type(sign)](left, right):
            return False
        left = right
    return True
