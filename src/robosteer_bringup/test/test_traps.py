"""Known traps, looked for in every source file.

Pins: MultiThreadedExecutor (loses most of a 1 kHz topic in the current releases); an executor spinning in a thread
(aborts the process at exit); `with rclpy.init()` (fails before Kilted); an ndarray assigned to an image message's data
(271 ms for 720p instead of 2); pickle and eval (code from data); a node's attribute that hides one
of rclpy's own (`self._timers`: no timer is ever called, and nobody says so).
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2]
FILES = sorted(path for path in SOURCE.glob("robosteer_*/**/*.py") if not {"build", "install", "log"} & set(path.parts))
# What rclpy.node.Node keeps in attributes of the same names (Kilted); a test holds this against the installed one.
NODE_ATTRIBUTES = {
    "_allow_undeclared_parameters",
    "_clients",
    "_clock",
    "_context",
    "_default_callback_group",
    "_descriptors",
    "_guards",
    "_logger",
    "_logger_service",
    "_on_set_parameters_callbacks",
    "_parameter_event_publisher",
    "_parameter_overrides",
    "_parameter_service",
    "_parameters",
    "_post_set_parameters_callbacks",
    "_pre_set_parameters_callbacks",
    "_publishers",
    "_rate_group",
    "_services",
    "_subscriptions",
    "_time_source",
    "_timers",
    "_type_description_service",
}
ARRAY_METHODS = {
    "astype",
    "reshape",
    "ravel",
    "flatten",
    "copy",
    "transpose",
    "asarray",
    "array",
    "frombuffer",
    "zeros",
}


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute; the empty string of anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def looks_like_array(node: ast.expr) -> bool:
    """Whether an expression is a call that yields an ndarray."""
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func)
    last = node.func.attr if isinstance(node.func, ast.Attribute) else name
    return not name.startswith("array.") and (last in ARRAY_METHODS or name.startswith(("np.", "numpy.")))


def traps(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and description of every trap in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.alias):
            name = node.name if isinstance(node, ast.alias) else dotted(node)
            if name.split(".")[-1] == "MultiThreadedExecutor":
                yield node.lineno, "MultiThreadedExecutor"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node.lineno, name) for name in names if name.split(".")[0] in ("pickle", "marshal", "shelve"))
        if isinstance(node, ast.Call):
            yield from call_traps(node)
        if isinstance(node, ast.With) and any(
            dotted(getattr(i.context_expr, "func", i)) == "rclpy.init" for i in node.items
        ):
            yield node.lineno, "with rclpy.init()"
        if isinstance(node, ast.ClassDef) and any(dotted(base).endswith("Node") for base in node.bases):
            yield from node_traps(node)
        if isinstance(node, ast.Assign):
            fields = [target for target in node.targets if isinstance(target, ast.Attribute) and target.attr == "data"]
            if fields and looks_like_array(node.value):
                yield node.lineno, ".data = ndarray; use array.array or bytes"


def node_traps(node: ast.ClassDef) -> Iterator[tuple[int, str]]:
    """Attributes of a subclass of rclpy's Node that hide the base class's own."""
    for part in ast.walk(node):
        stored = isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store | ast.Del)
        if stored and dotted(part) in {f"self.{name}" for name in NODE_ATTRIBUTES}:
            yield part.lineno, f"{dotted(part)} is rclpy's own; take another name"


def call_traps(node: ast.Call) -> Iterator[tuple[int, str]]:
    """Traps in one call."""
    name = dotted(node.func)
    if name in ("eval", "exec"):
        yield node.lineno, name
    for keyword in node.keywords:
        if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is True:
            yield node.lineno, "allow_pickle=True"
        if (
            keyword.arg == "data"
            and name.split(".")[-1] in ("Image", "CompressedImage")
            and looks_like_array(keyword.value)
        ):
            yield node.lineno, f"{name}(data=ndarray); use array.array or bytes"
        if (
            keyword.arg == "target"
            and name.endswith("Thread")
            and dotted(keyword.value).split(".")[-1].startswith("spin")
        ):
            yield node.lineno, "an executor spinning in a thread"


@pytest.mark.parametrize("package", sorted({path.relative_to(SOURCE).parts[0] for path in FILES}))
def test_no_traps(package: str) -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {trap}"
        for path in FILES
        if path.relative_to(SOURCE).parts[0] == package
        for line, trap in traps(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "from rclpy.executors import MultiThreadedExecutor",
        "rclpy.executors.MultiThreadedExecutor(4)",
        "import pickle",
        "from pickle import load",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "message.data = image.reshape(-1)",
        "message.data = np.ascontiguousarray(image)",
        "Image(data=image.astype('u1').ravel())",
        "with rclpy.init(): pass",
        "threading.Thread(target=executor.spin, daemon=True)",
        "class A(Node):\n def f(self): self._timers = []",
        "class A(rclpy.node.Node):\n def f(self): self.x, self._services = 1, 2",
        "class A(StoppableNode):\n def f(self): self._clients: list[int] = []",
        "class A(Node):\n def f(self):\n  for self._clock in ticks: pass",
    ],
)
def test_each_trap_is_seen(code: str) -> None:
    assert list(traps(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "message.data = array.array('B', image)",
        "message.data = image.tobytes()",
        "jax.eval_shape(f)",
        "m.data = [0.0]",
        "class A(Node):\n def f(self): self._timer = self._timers[0]",
        "class A:\n def f(self): self._clients = {}",
    ],
)
def test_the_right_way_is_no_trap(code: str) -> None:
    assert not list(traps(ast.parse(code)))


def test_the_list_of_a_nodes_own_attributes_is_the_installed_rclpys() -> None:
    import rclpy.node

    (node,) = (n for n in ast.parse(inspect.getsource(rclpy.node)).body if getattr(n, "name", "") == "Node")
    attributes = [n for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
    stored = {n.attr for n in attributes if dotted(n) == f"self.{n.attr}"}
    # Names with two underscores are mangled, and cannot be hidden by accident.
    assert {name for name in stored if not name.startswith("__")} == NODE_ATTRIBUTES
