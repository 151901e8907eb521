"""The command line: the only room that knows Invoke and Rich."""

from ops.cli.program import namespace, program

__all__ = ["namespace", "program"]
