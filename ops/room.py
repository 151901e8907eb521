"""Room for a copy: what each file system must hold, and whether it can."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
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
) -> Iterable[Room]:
    """Add up what each file system must hold beside the old pair, which stays until the swap.

    What a killed run left, by place, is removed first and counts as free.
    """
    database = source.database.room * (2 if source.way is Way.COPY else 1)
    needs = (
        (destination.database, database, _SPARE_INODES),
        (destination.attachments, source.size.room, source.size.entries),
    )
    rooms: dict[int, Room] = {}
    for path, bytes_needed, inodes_needed in needs:
        place = nearest_directory(path.parent)
        free = os.statvfs(place)
        device = place.stat().st_dev
        room = rooms.get(device) or Room(
            path=str(place),
            bytes_needed=_SPARE_BYTES,
            bytes_free=free.f_bavail * free.f_frsize if free.f_blocks else None,
            inodes_needed=_SPARE_INODES,
            inodes_free=free.f_favail if free.f_files else None,
        )
        freed = left_bytes(path) if left.get(path) is Left.LITTER else 0
        rooms[device] = replace(
            room,
            bytes_free=None if room.bytes_free is None else room.bytes_free + freed,
            bytes_needed=room.bytes_needed + bytes_needed,
            inodes_needed=room.inodes_needed + inodes_needed,
        )
    return rooms.values()


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
