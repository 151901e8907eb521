"""The front door: what `inv` loads and lists."""

from ops.cli import namespace as ns
from ops.cli.program import explain_broken_configuration

__all__ = ["ns"]

# Invoke reads its configuration files outside of any task, so this is the one place from
# which a broken one can be told in a line.
explain_broken_configuration()
