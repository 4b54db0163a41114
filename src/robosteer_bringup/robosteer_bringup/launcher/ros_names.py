"""ROS names: namespaces and node names."""

import re

from robosteer_bringup.launcher.errors import LaunchError

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def join_namespaces(base: str | None, namespace: str | None) -> str | None:
    """Return the absolute namespace of `namespace` seen from `base`; None if both are None.

    >>> join_namespaces("/cell", "left"), join_namespaces("/cell", "/left"), join_namespaces(None, "left/")
    ('/cell/left', '/left', '/left')
    """
    if base is None and namespace is None:
        return None
    if namespace is None:
        joined = base or ""
    elif not base or namespace.startswith("/"):
        joined = namespace
    else:
        joined = f"{base}/{namespace}"
    return "/" + "/".join(part for part in joined.split("/") if part)


def check_namespace(namespace: str) -> str:
    """Return an absolute namespace unchanged.

    Raises:
        LaunchError: if a part of it is no ROS name.
    """
    for part in namespace.strip("/").split("/"):
        if part and not _TOKEN.fullmatch(part):
            raise LaunchError(f"namespace {namespace}: found {part!r}, expected letters, digits and underscores")
    return namespace


def check_node_name(name: str) -> str:
    """Return a node name unchanged.

    Raises:
        LaunchError: if it is no ROS node name.
    """
    if not _TOKEN.fullmatch(name):
        raise LaunchError(f"node name: found {name!r}, expected letters, digits and underscores")
    return name
