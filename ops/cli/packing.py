"""The tasks that make one file of a snapshot, and a snapshot of the file."""

import os

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.console import messages
from ops.cli.decorator import Result, task
from ops.cli.flags import EFFORT, JSON, PROFILE, STORE
from ops.errors import UsageError
from ops.settings import (
    absolute_path,
    read_settings,
    reads_disk,
    required_file,
    required_path,
    required_store,
)


@task(
    help={
        **STORE,
        "snapshot": "Its name, or latest: the newest verified one. Default: latest.",
        "archive": "File to write, or a directory for one that has the snapshot's name. Required.",
        "recipient": "Encrypt to these public keys (age1…, ssh-…), separated by commas.",
        "recipients_file": "Encrypt to the public keys in this file, one a line.",
        "check": EFFORT["check"],
        "jobs": "Threads that compress. Default: as many as there are cores.",
        "force": "Replace an older archive of this name.",
        "dry_run": "Tell what would be packed, and stop.",
        **JSON,
    }
)
def pack(
    context: Context,
    *,
    store: str = "",
    snapshot: str = "",
    archive: str = "",
    recipient: str = "",
    recipients_file: str = "",
    check: str = "",
    jobs: str = "",
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Make one file of a snapshot, encrypted if you like, and read it again before it counts.

    `zstd -d` and `tar x` read it, after `age -d` if it is encrypted; `inv unpack` brings it back
    into a store.
    """
    from ops.archive.age import read_recipients
    from ops.archive.compression import zstd_module
    from ops.cli.packed import pack_document, packed_document, packed_lines, plan_lines
    from ops.cli.progress import show_progress
    from ops.pack import PackRequest, plan_pack, run_pack
    from ops.store import LATEST, find_snapshot, require_store

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(context.config.ops, jobs=jobs, store=store)
    place = required_path(archive, "--archive")
    zstd_module()
    keys = absolute_path(recipients_file, "--recipients-file") if recipients_file else None
    recipients = read_recipients(recipient, keys)
    found = find_snapshot(require_store(required_store(settings)), snapshot or LATEST)
    if not os.path.isdir(place):  # noqa: PTH112 - it never raises
        required_file(archive, "--archive")
    else:
        place /= f"{found.name}.tar.zst" + ".age" * bool(recipients)
    if place.suffix == ".age" and not recipients:
        raise UsageError(
            f"nothing is encrypted without a recipient: {place.name}",
            hint="give --recipient or --recipients-file, or another name",
        )
    request = PackRequest(
        snapshot=found,
        archive=place,
        recipients=recipients,
        replace=force,
        from_disk=reads_disk(check),
        jobs=settings.jobs,
    )
    plan = plan_pack(request)
    if dry_run:
        return Result(document=pack_document(plan), lines=plan_lines(plan))
    with show_progress(messages()) as progress:
        packed = run_pack(plan, clock=CLOCK, progress=progress)
    return Result(document=packed_document(packed), lines=packed_lines(packed))


@task(
    help={
        "archive": "File to unpack. Required.",
        **STORE,
        "identity_file": "File of the secret keys that open it, if it is encrypted.",
        "max_bytes": "How large it may become, such as 50GiB. Default: 200 times its own size,"
        " and at least 1GiB.",
        **EFFORT,
        "dry_run": "Read all of it, compare it with its own manifest, and keep nothing.",
        **PROFILE,
        **JSON,
    }
)
def unpack(
    context: Context,
    *,
    archive: str = "",
    store: str = "",
    identity_file: str = "",
    max_bytes: str = "",
    check: str = "",
    jobs: str = "",
    profile: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Bring a packed snapshot back into a store, which is made if need be, and check all of it.

    An archive that is damaged, or is not what `inv pack` writes, leaves nothing in the store.
    """
    from ops.archive.age import read_identities
    from ops.archive.compression import zstd_module
    from ops.cli.packed import look_document, look_lines, unpacked_document, unpacked_lines
    from ops.cli.progress import show_progress
    from ops.profile import Profile, load_profile
    from ops.unpack import UnpackRequest, look_into, parse_bytes, run_unpack

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(context.config.ops, profile=profile, jobs=jobs, store=store)
    zstd_module()
    keys = absolute_path(identity_file, "--identity-file") if identity_file else None
    request = UnpackRequest(
        archive=required_file(archive, "--archive"),
        store=required_store(settings),
        identities=() if keys is None else read_identities(keys),
        most_bytes=parse_bytes(max_bytes, "--max-bytes") if max_bytes else 0,
        from_disk=reads_disk(check),
        jobs=settings.jobs,
    )

    def choose(made_with: str) -> Profile:
        """Check by what the operator says, or else as the snapshot was checked."""
        undecided = settings.profile.origin == "default" and made_with == "none"
        return load_profile("none" if undecided else settings.profile.value)

    choose("")  # a profile that is not there is told before anything is read
    with show_progress(messages()) as progress:
        if dry_run:
            arrived = look_into(request, progress=progress)
            return Result(document=look_document(arrived), lines=look_lines(arrived))
        unpacked = run_unpack(request, choose, clock=CLOCK, progress=progress)
    return Result(document=unpacked_document(unpacked), lines=unpacked_lines(unpacked))
