"""Our own engine as a command, for the benchmark: a whole process, as its peers are.

    python -m tests.bench.ours MODE SOURCE DESTINATION [JOBS]

MODE is copy, digests (copy and SHA-256) or check (the same and a check that reads all again).
"""

import sys
from pathlib import Path

from ops.errors import SourceError
from ops.tree.crew import FEW_BYTES, FEW_FILES, crew, fitting_jobs
from ops.tree.reading import Checking
from ops.tree.scan import measure_tree
from ops.tree.update import TreeCopy
from ops.tree.work import Trees


def main(mode: str, source: Path, destination: Path, jobs: int) -> int:
    """Copy a tree, and check it where that is asked for; return an exit code."""
    destination.mkdir(mode=0o700)
    size = measure_tree(source, error=SourceError, files=FEW_FILES, size=FEW_BYTES)
    jobs = fitting_jobs(jobs, files=size.files, size=size.bytes)
    trees = Trees(source=source, copy=destination, digests=mode != "copy")
    with crew(trees, jobs=jobs) as workers:
        copy = TreeCopy(workers)
        copy.update(delete=False)
        copy.finish()
        if mode != "check":
            return 0
        checking = Checking(copy.entries, destination)
        workers.start(checking)
        workers.finish()
        found = checking.result(workers).findings
    sys.stderr.writelines(f"{finding}\n" for finding in found[:10])
    return 1 if found else 0


if __name__ == "__main__":
    mode, source, destination, *rest = sys.argv[1:]
    raise SystemExit(main(mode, Path(source), Path(destination), int(rest[0]) if rest else 0))
