"""Substitutions that look a package up in the ament index."""

from pathlib import Path

from robosteer_bringup.launcher.context import LaunchContext
from robosteer_bringup.launcher.resolve import package_prefix, package_share
from robosteer_bringup.launcher.substitutions import SomeSubstitutions, Substitution, describe, perform


class FindPackagePrefix(Substitution):
    """The install prefix of a package."""

    def __init__(self, package: SomeSubstitutions) -> None:
        self.package = package

    def find(self, package: str, context: LaunchContext) -> Path:
        """Return the directory of a package."""
        return package_prefix(package, context.environment)

    def perform(self, context: LaunchContext) -> str:
        """Return the directory.

        Raises:
            LaunchError: if the package is not installed.
        """
        return str(self.find(perform(context, self.package), context))

    def describe(self) -> str:
        """Name the package."""
        return f"{type(self).__name__}({describe(self.package)})"


class FindPackageShare(FindPackagePrefix):
    """The share directory of a package."""

    def find(self, package: str, context: LaunchContext) -> Path:
        """Return the share directory of a package."""
        return package_share(package, context.environment)
