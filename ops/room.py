"""Room for a copy: what each file system must hold, and whether it can."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ops.destination import nearest_directory
from ops.errors import DestinationError
from ops.model import Instance
from ops.names import display
from ops.report import Room
from ops.settlement import Left, left_bytes
from ops.sqlite.source import Way
from ops.survey import SourceSurvey

_SPARE_BYTES = 1 << 20

_SPARE_INODES = 12
"""For the workspaces, their directories and journal, and what SQLite puts beside a database."""


def measure_rooms(
    source: SourceSurvey, destination: Instance, left: Mapping[Path, Left]
) -> tuple[Room, ...]:
    """Add up what each file system must hold beside the old pair, which stays until the swap.

    What a killed run left, by place, is removed first and counts as free.
    """
    database = source.database.room * (2 if source.way is Way.COPY else 1)
    needs = (
        Need(path=destination.database, bytes=database, inodes=_SPARE_INODES),
        Need(path=destination.attachments, bytes=source.size.room, inodes=source.size.entries),
    )
    places = (need.path for need in needs)
    freed = {path: left_bytes(path) for path in places if left.get(path) is Left.LITTER}
    return add_rooms(needs, spare_bytes=_SPARE_BYTES, spare_inodes=_SPARE_INODES, freed=freed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What is to be written, beside what stands there, at a place."""

    path: Path
    bytes: int
    inodes: int


def add_rooms(
    needs: Iterable[Need],
    *,
    spare_bytes: int,
    spare_inodes: int = 0,
    freed: Mapping[Path, int] | None = None,
) -> tuple[Room, ...]:
    """Add needs up by file system, and see what is free there.

    Args:
        needs: What goes where.
        spare_bytes: For each file system, what comes on top.
        spare_inodes: The same in inodes.
        freed: By place, the bytes that are removed before anything is written.

    Raises:
        DestinationError: A file stands where a directory must be.
    """
    rooms: dict[int, Room] = {}
    for need in needs:
        place = nearest_directory(need.path.parent)
        free = os.statvfs(place)
        device = place.stat().st_dev
        room = rooms.get(device) or Room(
            path=str(place),
            bytes_needed=spare_bytes,
            bytes_free=free.f_bavail * free.f_frsize if free.f_blocks else None,
            inodes_needed=spare_inodes,
            inodes_free=free.f_favail if free.f_files else None,
        )
        more = (freed or {}).get(need.path, 0)
        rooms[device] = replace(
            room,
            bytes_free=None if room.bytes_free is None else room.bytes_free + more,
            bytes_needed=room.bytes_needed + need.bytes,
            inodes_needed=room.inodes_needed + need.inodes,
        )
    return tuple(rooms.values())


def require_room(room: Room) -> None:
    """Refuse a file system that is too small.

    Raises:
        DestinationError: It is; the message says what is short.
    """
    if room.enough:
        return
    short = (
        f"{room.bytes_needed} bytes needed, {room.bytes_free} free"
        if room.bytes_free is not None and room.bytes_needed > room.bytes_free
        else f"{room.inodes_needed} inodes needed, {room.inodes_free} free"
    )
    raise DestinationError(
        f"no room on the file system of {display(room.path)}: {short}",
        hint="free some space, or choose another file system; "
        "an old pair stays until the new one is checked",
    )
