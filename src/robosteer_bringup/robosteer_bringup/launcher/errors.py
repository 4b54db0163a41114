"""What a user can get wrong in a launch file or on its command line."""

from robosteer_rig.errors import RobosteerError


class LaunchError(RobosteerError):
    """A launch file, a launch argument or an executable that the user can correct."""


class UnsupportedConstructError(LaunchError, ImportError):
    """A part of the launch API that this launcher leaves to `ros2 launch`.

    It is an ImportError too, so that `from launch.actions import X` fails in the way Python code expects.
    """

    def __init__(self, construct: str) -> None:
        super().__init__(
            f"{construct}: outside the subset of the built-in launcher (docs/reference/launcher.md); "
            "it needs a ROS 2 installation: use ros2 launch"
        )


def refuse_keywords(owner: str, keywords: dict[str, object]) -> None:
    """Refuse constructor keywords that the real launch knows and we do not.

    Args:
        owner: Name of the construct, as the launch file wrote it.
        keywords: What was left over after the supported keywords were taken.

    Raises:
        UnsupportedConstructError: if any keyword is left.
    """
    if keywords:
        raise UnsupportedConstructError(f"{owner}({', '.join(sorted(keywords))}=...)")
