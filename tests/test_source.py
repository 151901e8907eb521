"""Where the source comes from: each link of the chain, and the order among them."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from ops.demo_instance import build_instance
from ops.errors import OpsError, SourceError, UsageError
from ops.model import Instance
from ops.profile import load_profile
from ops.settings import read_settings
from ops.source import Location, locate_source
from tests.command import INV, ROOT, from_flags, run, run_here, to_flags

PROFILE = load_profile("ciso_assistant")


def locate(
    config: Mapping[str, object] | None = None,
    *,
    source_db: str = "",
    source_attachments: str = "",
    environment: Mapping[str, str] | None = None,
    profile: str = "ciso_assistant",
) -> Location:
    """Find the source that flags, configuration and variables name."""
    settings = read_settings(
        config or {},
        source_db=source_db,
        source_attachments=source_attachments,
        environment=environment or {},
    )
    return locate_source(settings, load_profile(profile))


def failure(
    kind: type[OpsError],
    config: Mapping[str, object] | None = None,
    *,
    source_db: str = "",
    source_attachments: str = "",
    environment: Mapping[str, str] | None = None,
    profile: str = "ciso_assistant",
) -> OpsError:
    """Return why no source is found."""
    with pytest.raises(kind) as caught:
        locate(
            config,
            source_db=source_db,
            source_attachments=source_attachments,
            environment=environment,
            profile=profile,
        )
    return caught.value


class Application:
    """A real Django project with a real manage.py."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "manage.py").write_text(
            textwrap.dedent(
                """
                import os, sys
                os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
                from django.core.management import execute_from_command_line
                execute_from_command_line(sys.argv)
                """
            )
        )

    def configure(self, text: str) -> None:
        """Write its settings."""
        (self.directory / "site_settings.py").write_text(
            f"from pathlib import Path\nBASE_DIR = Path({str(self.directory)!r})\n"
            "SECRET_KEY = 'x'\nINSTALLED_APPS = []\nUSE_TZ = True\n" + textwrap.dedent(text)
        )

    @property
    def manage(self) -> list[str]:
        """The command that runs it."""
        return [sys.executable, str(self.directory / "manage.py")]


@pytest.fixture
def application(tmp_path: Path) -> Application:
    """Make a Django project that keeps its data as CISO Assistant does."""
    pytest.importorskip("django")
    made = Application(tmp_path / "app 名")
    made.configure(
        """
        DATABASES = {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "app.sqlite3"}
        }
        MEDIA_ROOT = BASE_DIR / "media"
        print("a settings module may print")
        """
    )
    return made


# One link at a time


def test_flags() -> None:
    found = locate(source_db="/a/db", source_attachments="/a/files")
    assert found.instance == Instance(database=Path("/a/db"), attachments=Path("/a/files"))
    assert found.origin == "flags"


def test_configuration() -> None:
    found = locate({"source_db": "/b/db", "source_attachments": "~/files"})
    assert found.instance.database == Path("/b/db")
    assert found.instance.attachments == Path.home() / "files"
    assert found.origin == "configuration"


def test_variables_of_the_application() -> None:
    found = locate(environment={"SQLITE_FILE": "/c/db", "LOCAL_STORAGE_DIRECTORY": "/c/files"})
    assert found.instance == Instance(database=Path("/c/db"), attachments=Path("/c/files"))
    assert found.origin == "environment (SQLITE_FILE, LOCAL_STORAGE_DIRECTORY)"


def test_manage(application: Application) -> None:
    found = locate({"manage": application.manage})
    assert found.instance.database == application.directory / "app.sqlite3"
    assert found.instance.attachments == application.directory / "media"
    assert found.origin == "manage (Django's DATABASES and MEDIA_ROOT)"


def test_instance_root() -> None:
    found = locate({"instance_root": "/srv/ciso"})
    assert found.instance.database == Path("/srv/ciso/db/ciso-assistant.sqlite3")
    assert found.instance.attachments == Path("/srv/ciso/db/attachments")
    assert found.origin == "instance_root /srv/ciso"


def test_instance_root_takes_a_profile_that_knows_the_layout() -> None:
    said = failure(UsageError, {"instance_root": "/srv/ciso"}, profile="none")
    assert said.message == "no source: nothing says which instance to read"


def test_nothing() -> None:
    said = failure(UsageError)
    assert said.message == "no source: nothing says which instance to read"
    assert "or set SQLITE_FILE and LOCAL_STORAGE_DIRECTORY" in said.hint


def test_nothing_for_an_application_without_variables(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('title = "Own"')
    said = failure(
        UsageError,
        environment={"": "trap", "SQLITE_FILE": "/a", "LOCAL_STORAGE_DIRECTORY": "/b"},
        profile=str(tmp_path / "own.toml"),
    )
    assert said.hint == "give --source-db and --source-attachments"


# The order among them


def test_precedence(application: Application) -> None:
    variables = {"SQLITE_FILE": "/c/db", "LOCAL_STORAGE_DIRECTORY": "/c/files"}
    configured = {"source_db": "/b/db", "source_attachments": "/b/files"}
    lower: dict[str, object] = {"manage": application.manage, "instance_root": "/e"}
    origins = [
        locate(
            {**configured, **lower},
            source_db="/a/db",
            source_attachments="/a/files",
            environment=variables,
        ).origin,
        locate({**configured, **lower}, environment=variables).origin,
        locate(lower, environment=variables).origin,
        locate(lower).origin,
        locate({"instance_root": "/e"}).origin,
    ]
    assert [origin.split()[0] for origin in origins] == [
        "flags",
        "configuration",
        "environment",
        "manage",
        "instance_root",
    ]


def test_the_application_is_asked_only_in_its_turn(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    command = [sys.executable, "-c", f"open({str(asked)!r}, 'w')"]
    locate({"manage": command}, source_db="/a", source_attachments="/b")
    assert not asked.exists()
    failure(SourceError, {"manage": command})
    assert asked.exists()


# Half a source


@pytest.mark.parametrize(
    ("flags", "given", "lacking"),
    [
        ({"source_db": "/a"}, "--source-db", "--source-attachments"),
        ({"source_attachments": "/a"}, "--source-attachments", "--source-db"),
    ],
)
def test_half_by_flags_is_not_filled_from_below(
    flags: dict[str, str], given: str, lacking: str
) -> None:
    said = failure(
        UsageError,
        {"source_db": "/b", "source_attachments": "/b"},
        source_db=flags.get("source_db", ""),
        source_attachments=flags.get("source_attachments", ""),
    )
    assert said.message == f"flags: {given} names half of the source, {lacking} is missing"
    assert said.hint == "both must come from the same place: give both, or neither"


def test_half_by_configuration_or_variables() -> None:
    said = failure(UsageError, {"source_db": "/b"})
    assert said.message.startswith("configuration: ops.source_db names half of the source, ops.")
    said = failure(UsageError, environment={"LOCAL_STORAGE_DIRECTORY": "/c"})
    assert said.message.endswith(
        ": LOCAL_STORAGE_DIRECTORY names half of the source, SQLITE_FILE is missing"
    )
    assert "environment" in said.message


def test_half_by_manage(application: Application) -> None:
    application.configure(
        """
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/x"}}
        """
    )
    said = failure(UsageError, {"manage": application.manage})
    assert "DATABASES names half of the source, MEDIA_ROOT is missing" in said.message


# Data kept elsewhere


@pytest.mark.parametrize(
    ("variable", "value", "keeps"),
    [
        ("POSTGRES_NAME", "ciso", "its database in PostgreSQL"),
        ("USE_S3", "True", "its attachments in S3"),
        ("USE_AZURE", "on", "its attachments in Azure"),
    ],
)
@pytest.mark.parametrize("otherwise", ["nothing", "variables", "instance_root"])
def test_defaults_are_refused(variable: str, value: str, keeps: str, otherwise: str) -> None:
    environment = {variable: value}
    if otherwise == "variables":
        environment |= {"SQLITE_FILE": "/c/db", "LOCAL_STORAGE_DIRECTORY": "/c/files"}
    config = {"instance_root": "/srv"} if otherwise == "instance_root" else {}
    said = failure(SourceError, config, environment=environment)
    assert said.message.startswith(f"{variable} is set: CISO Assistant keeps {keeps}")
    assert "name the source with --source-db" in said.hint


@pytest.mark.parametrize(
    ("variable", "value"),
    [("POSTGRES_NAME", ""), ("USE_S3", "False"), ("USE_S3", ""), ("USE_AZURE", "0")],
)
def test_what_is_switched_off_does_not_count(variable: str, value: str) -> None:
    assert locate({"instance_root": "/srv"}, environment={variable: value}).origin


def test_what_is_named_by_hand_is_taken_all_the_same() -> None:
    elsewhere = {"POSTGRES_NAME": "ciso", "USE_S3": "1"}
    found = locate(source_db="/a", source_attachments="/b", environment=elsewhere)
    assert found.origin == "flags"
    config = {"source_db": "/a", "source_attachments": "/b"}
    assert locate(config, environment=elsewhere).origin == "configuration"


@pytest.mark.parametrize(
    ("settings", "says", "hint"),
    [
        (
            'DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "ciso"}}',
            "the application's database is django.db.backends.postgresql, not SQLite",
            "pg_dump for PostgreSQL",
        ),
        (
            """
            DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/x"}}
            MEDIA_ROOT = "/y"
            STORAGES = {"default": {"BACKEND": "storages.backends.s3.S3Storage"}}
            """,
            "the application keeps its attachments in storages.backends.s3.S3Storage, not in a",
            "copy the bucket or container",
        ),
        (
            """
            DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/x"}}
            MEDIA_ROOT = "/y"
            STORAGES = {"default": {"BACKEND": "storages.backends.azure_storage.AzureStorage"}}
            """,
            "in storages.backends.azure_storage.AzureStorage, not in a directory",
            "copy the bucket or container",
        ),
    ],
)
def test_manage_may_answer_that_data_are_elsewhere(
    settings: str, says: str, hint: str, application: Application
) -> None:
    application.configure(settings)
    said = failure(SourceError, {"manage": application.manage})
    assert says in said.message
    assert hint in said.hint


def test_storage_with_a_directory_of_its_own(application: Application) -> None:
    """Django stores in the storage's own location, whatever MEDIA_ROOT says."""
    application.configure(
        """
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/x"}}
        MEDIA_ROOT = "/y"
        STORAGES = {
            "default": {
                "BACKEND": "django.core.files.storage.FileSystemStorage",
                "OPTIONS": {"location": "/z"},
            }
        }
        """
    )
    assert locate({"manage": application.manage}).instance.attachments == Path("/z")


# What can go wrong with asking


def test_manage_that_cannot_be_run(tmp_path: Path) -> None:
    said = failure(UsageError, {"manage": [str(tmp_path / "no\npython"), "manage.py"]})
    name = f"{tmp_path}/no\\npython"
    assert said.message == f"cannot run ops.manage: {name}: No such file or directory"
    assert "by full paths" in said.hint


def test_manage_that_fails(application: Application) -> None:
    application.configure("raise RuntimeError('no \\x1b[31m secret')")
    said = failure(SourceError, {"manage": application.manage})
    assert said.message.startswith("ops.manage gave no settings (exit code 1): ")
    assert said.message.endswith("RuntimeError: no \\u001b[31m secret")
    assert said.hint == (
        f"try it yourself: {sys.executable} {application.directory}/manage.py check"
    )


def test_manage_that_says_nothing() -> None:
    said = failure(SourceError, {"manage": [sys.executable, "-c", "pass"]})
    assert said.message == "ops.manage gave no settings (exit code 0): no output"


def test_manage_that_answers_nonsense() -> None:
    script = "print('ciso-ops-settings:{')"
    said = failure(SourceError, {"manage": [sys.executable, "-c", script]})
    assert "ops.manage" in said.message


def test_manage_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.source._MANAGE_TIMEOUT_SECONDS", 0.2)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    said = failure(SourceError, {"manage": sleep})
    assert said.message == f"the application did not answer within 0.2 s: {sys.executable}"


def test_paths_with_a_nul() -> None:
    said = failure(UsageError, {"source_db": "/a\0", "source_attachments": "/b"})
    assert said.message == "configuration holds a NUL character"


# Through the real command


def test_the_report_says_where_the_source_came_from(
    instance: Instance, destination: Instance
) -> None:
    variables = {
        "SQLITE_FILE": str(instance.database),
        "LOCAL_STORAGE_DIRECTORY": str(instance.attachments),
    }
    ran = run("clone", "--force", *to_flags(destination), environment=variables)
    assert ran.code == 0, ran.err
    assert "environment (SQLITE_FILE, LOCAL_STORAGE_DIRECTORY)" in ran.err
    assert destination.database.exists()


def test_variables_of_invoke(instance: Instance) -> None:
    variables = {
        "INVOKE_OPS_SOURCE_DB": str(instance.database),
        "INVOKE_OPS_SOURCE_ATTACHMENTS": str(instance.attachments),
    }
    source = run("status", "--json", environment=variables).document["source"]
    assert source["origin"] == "configuration"
    assert source["database"] == str(instance.database)
    variables = {"INVOKE_OPS_INSTANCE_ROOT": str(instance.database.parents[1])}
    source = run("status", "--json", environment=variables).document["source"]
    assert source["origin"].startswith("instance_root ")
    assert source["usable"] is True


def _configure(directory: Path, instance: Instance) -> None:
    (directory / "invoke.yaml").write_text(
        f"ops:\n  source_db: {instance.database}\n  source_attachments: {instance.attachments}\n"
    )


def test_file_of_the_project(instance: Instance, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tasks.py", tmp_path)
    _configure(tmp_path, instance)
    path = {"PYTHONPATH": str(ROOT)}
    ran = run("status", "--json", directory=tmp_path, environment=path)
    assert ran.document["source"]["origin"] == "configuration"
    assert ran.document["source"]["usable"] is True


def test_file_of_the_user(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _configure(tmp_path, instance)
    (tmp_path / "invoke.yaml").rename(tmp_path / "home" / ".invoke.yaml")
    document = run_here(capsys, "status", "--json").document
    assert document["source"]["origin"] == "configuration"


def test_the_installed_command_reads_the_file_here(
    instance: Instance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its own hint says so: "Invoke reads /etc/invoke.yaml, ~/.invoke.yaml, invoke.yaml here"."""
    _configure(tmp_path, instance)
    monkeypatch.chdir(tmp_path)
    document = run_here(capsys, "status", "--json").document
    assert document["source"].get("origin") == "configuration"


def test_manage_through_the_command(
    application: Application, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    made = build_instance(application.directory / "data", evidences=2)
    application.configure(
        f"""
        DATABASES = {{
            "default": {{
                "ENGINE": "django.db.backends.sqlite3", "NAME": {str(made.database)!r}
            }}
        }}
        MEDIA_ROOT = {str(made.attachments)!r}
        """
    )
    quoted = " ".join(f"'{part}'" for part in application.manage)
    environment = {"INVOKE_OPS_MANAGE": quoted}
    ran = run("clone", "--force", *to_flags(destination), environment=environment)
    assert ran.code == 0, ran.err
    assert "manage (Django's DATABASES and MEDIA_ROOT)" in ran.err
    flags = from_flags(made)
    assert run_here(capsys, "verify", *to_flags(destination), *flags).code == 0


def test_asking_leaves_nothing_in_the_application(application: Application) -> None:
    other = {"PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"}
    environment = {key: value for key, value in os.environ.items() if key not in other}
    environment |= {"INVOKE_OPS_MANAGE": " ".join(f"'{part}'" for part in application.manage)}
    before = sorted(path.name for path in application.directory.rglob("*"))
    subprocess.run([*INV, "status"], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert sorted(path.name for path in application.directory.rglob("*")) == before
