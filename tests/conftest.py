"""Fixtures and settings that every test shares."""

import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ops.demo_instance import build_instance
from ops.model import Instance
from ops.profile import load_profile

# Some tests act as a user who may not read the interpreter's own modules: load them now.
load_profile("none")

SHARED = Path(__file__).parents[2] / "shared" / "ciso"

# File systems are slow at times: no example has a deadline. A run that says yes or no of a change
# tries the same examples each time, on a desk and in CI; `nox -s soak` looks for new ones.
settings.register_profile("quick", max_examples=25, derandomize=True, deadline=None)
settings.register_profile("ci", settings.get_profile("quick"), print_blob=True, database=None)
settings.register_profile(
    "soak", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "quick"))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the operator's own configuration and variables out of the tests."""
    for name in list(os.environ):
        if name.startswith(("INVOKE_", "POSTGRES_", "USE_S3", "USE_AZURE", "SQLITE_FILE")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("LOCAL_STORAGE_DIRECTORY", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """Make a small instance at rest, with the application's table and column names."""
    return build_instance(tmp_path / "production", evidences=12)


@pytest.fixture
def destination(tmp_path: Path) -> Instance:
    """Name a destination where nothing is yet."""
    directory = tmp_path / "copy"
    return Instance(database=directory / "db.sqlite3", attachments=directory / "attachments")


def extract_sample(name: str, directory: Path) -> Path:
    """Extract an instance that the real application wrote; skip where it is not to be had."""
    archive = SHARED / f"{name}.tar.gz"
    if not archive.exists():
        pytest.skip(f"the real sample {name}.tar.gz is not beside the project")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="fully_trusted")
    return directory / name
