"""Where the installed command is, by its full name."""

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ops.errors import UsageError


def installed_command(package: str = "ciso-ops", command: str = "ciso-ops") -> Path:
    """Return the path of the command that belongs to this installation of a package.

    Raises:
        UsageError: There is none: this runs from a directory that was never installed.
    """
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == command and file.parent.name == "bin":
            # The record says ../../../bin/ciso-ops: the directory without the dots.
            return Path(os.path.normpath(str(file.locate())))
    raise UsageError(
        f"the command {command} is not installed with this Python, so nothing could start it",
        hint="install it: python3 -m pip install -e . (in a virtual environment)",
    )
