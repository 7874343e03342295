"""Follows an mp4 packet by packet and says which of its pictures are encrypted: by its index, and
fragment by fragment.

FFmpeg knows no sample groups, and what it notes on a packet it notes on clear ones of a protected
track, too. Source: ISO/IEC 14496-12, 8.3 (`tkhd`), 8.4.3 (`hdlr`), 8.8 (fragments).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from workers.sampling.inside.boxes import Box, ByteFile, boxes, boxes_in, movie, read_at
from workers.sampling.inside.encryption import cenc
from workers.sampling.inside.encryption.base import Encryption
from workers.sampling.inside.encryption.cenc import LOCAL, Groups, Runs

#: What is read of one box at most; a longer table says enough about the first minute.
_MOST_BYTES = 1 << 20
#: Boxes at the top of a file that are passed while its first minute is read: four for each picture
#: would be fewer.
MAX_TOP_BOXES = 100_000


@dataclass(frozen=True)
class _Track:
    """What the index says, of `samples` that are in no fragment.

    `description_runs`: None where all descriptions say the same, or in fragments.
    """

    track_id: int
    samples: int
    descriptions: tuple[bool, ...]
    description_runs: Runs | None
    groups: Groups
    group_runs: Runs

    def description(self, number: int | None) -> bool:
        """Whether samples of this description, counted from 0, are protected by default."""
        known = self.descriptions
        return known[number] if number is not None and 0 <= number < len(known) else any(known[:1])

    def is_protected(self, sample: int) -> bool:
        number = self.group_runs.at(sample)
        by_group = self.groups.at(self.groups.default if number is None else number)
        if by_group is not None:
            return by_group
        return self.description(self.description_runs.at(sample) if self.description_runs else 0)


@dataclass(frozen=True)
class _Fragment:
    """The samples of a track in one `traf`."""

    track: _Track
    samples: int
    is_protected_by_default: bool
    groups: Groups
    group_runs: Runs

    def is_protected(self, sample: int) -> bool:
        number = self.group_runs.at(sample)
        if number is None:
            number = (
                self.groups.default + LOCAL if self.groups.default else self.track.groups.default
            )
        by_group = (
            self.groups.at(number - LOCAL) if number > LOCAL else self.track.groups.at(number)
        )
        return self.is_protected_by_default if by_group is None else by_group


class Mp4Encryption(Encryption):
    """Of one track of pictures."""

    def __init__(self, file: ByteFile) -> None:
        super().__init__(file)
        self._end = file.seek(0, os.SEEK_END)
        index = movie(file)
        content = list(boxes(file, index.start, index.stop)) if index else []
        self._tracks = [
            track for box in content if box.kind == b"trak" and (track := _track(file, box))
        ]
        #: description of a track's samples in fragments that name none
        self._named: dict[int, int] = {}
        for box in content:
            if box.kind == b"mvex":
                for kind, trex in boxes_in(_content(file, box)):
                    if kind == b"trex":
                        self._named[_number(trex, 4)] = _number(trex, 8)
        is_fragmented = any(box.kind == b"mvex" for box in content)
        self._first_box = index.stop if index and is_fragmented else self._end
        self._start(self._tracks[0] if self._tracks else None)

    def begin(self, stream: VideoStream, /) -> None:
        self._start(next((track for track in self._tracks if track.track_id == stream.id), None))

    def _start(self, track: _Track | None) -> None:
        self._track = track
        self._next_box, self._passed = self._first_box, 0
        self._fragments: list[_Fragment] = []  # of the `moof` that was reached
        self._sample = 0  # the next one, of the file or, once there is one, of that `moof`

    def covers(self, packet: Packet[Stream], /) -> bool:
        if packet.pos is not None:
            self._advance(packet.pos)
        is_protected = self._is_protected()
        self._sample += 1
        if not is_protected:
            return False
        return not cenc.protects_nothing(bytes(packet.get_sidedata("encryption_info")))

    def explains_failure(self) -> bool:
        known: Sequence[_Fragment | _Track] = self._fragments or (
            [self._track] if self._track else []
        )
        if self._sample >= sum(part.samples for part in known) and not self._advance(
            self._end, one=True
        ):
            return False
        return self._is_protected()

    def _is_protected(self) -> bool:
        sample = self._sample
        for fragment in self._fragments:
            if sample < fragment.samples:
                return fragment.is_protected(sample)
            sample -= fragment.samples
        if self._fragments:
            return self._fragments[-1].is_protected(sample)
        return self._track is not None and self._track.is_protected(sample)

    def _advance(self, position: int, *, one: bool = False) -> bool:
        """Pass the fragments that begin before `position`, with `one` only the next one. Whether
        there was one.
        """
        if self._track is None or self._next_box > position or self._next_box >= self._end:
            return False
        place, before = self.file.tell(), self._fragments
        while self._next_box <= position and self._passed < MAX_TOP_BOXES:
            box = next(boxes(self.file, self._next_box, self._end), None)
            if box is None:
                self._next_box = self._end + 1
                break
            self._next_box, self._passed = max(box.stop, self._next_box + 8), self._passed + 1
            if box.kind == b"moof" and (found := self._fragments_of(self._track, box)):
                self._fragments, self._sample = found, 0
                if one:
                    break
        self.file.seek(place)
        return self._fragments is not before

    def _fragments_of(self, track: _Track, moof: Box) -> list[_Fragment]:
        contents = (
            content for kind, content in boxes_in(_content(self.file, moof)) if kind == b"traf"
        )
        found = (_fragment(track, traf, self._named.get(track.track_id, 1)) for traf in contents)
        return [fragment for fragment in found if fragment]


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _content(file: ByteFile, box: Box) -> bytes:
    return read_at(file, box.start, min(_MOST_BYTES, box.stop - box.start))


def _track(file: ByteFile, trak: Box) -> _Track | None:
    """None for what is no track of pictures."""
    track_id, is_pictures, table = 0, False, []
    for box in boxes(file, trak.start, trak.stop):
        if box.kind == b"tkhd":
            head = read_at(file, box.start, 24)
            track_id = _number(head, 20 if head[:1] == b"\1" else 12)
        elif box.kind == b"mdia":
            for inner in boxes(file, box.start, box.stop):
                if inner.kind == b"hdlr":
                    is_pictures = read_at(file, inner.start, 12)[8:] == b"vide"
                elif inner.kind == b"minf":
                    tables = (
                        one for one in boxes(file, inner.start, inner.stop) if one.kind == b"stbl"
                    )
                    table = [one for stbl in tables for one in boxes(file, stbl.start, stbl.stop)]
    if not is_pictures:
        return None
    wanted = {
        kind: [_content(file, box) for box in table if box.kind == kind]
        for kind in (b"stsd", b"sgpd", b"sbgp", b"csgp")
    }
    descriptions = cenc.descriptions(wanted[b"stsd"][0]) if wanted[b"stsd"] else ()
    runs = None
    if len(set(descriptions)) > 1:
        runs = next(
            (cenc.description_runs(_content(file, box)) for box in table if box.kind == b"stsc"),
            None,
        )
    samples = next(
        (
            _number(read_at(file, box.start, 12), 8)
            for box in table
            if box.kind in (b"stsz", b"stz2")
        ),
        0,
    )
    return _Track(
        track_id,
        samples,
        descriptions,
        runs,
        *_grouping(wanted[b"sgpd"], wanted[b"sbgp"], wanted[b"csgp"]),
    )


def _grouping(sgpd: list[bytes], sbgp: list[bytes], csgp: list[bytes]) -> tuple[Groups, Runs]:
    """The `seig` groups and the samples in them, among all groups of a track or fragment."""
    groups = [group for box in sgpd if (group := cenc.groups(box))]
    runs = [run for box in sbgp if (run := cenc.group_runs(box))]
    runs += [run for box in csgp if (run := cenc.compact_group_runs(box))]
    return groups[0] if groups else Groups(), runs[0] if runs else Runs()


def _fragment(track: _Track, traf: bytes, description: int) -> _Fragment | None:
    """None if it is of another track."""
    parts: dict[bytes, list[bytes]] = {}
    for kind, content in boxes_in(traf):
        parts.setdefault(kind, []).append(content)
    header = next(iter(parts.get(b"tfhd", [])), b"")
    if _number(header, 4) != track.track_id:
        return None
    flags = _number(header, 0)
    if flags & 2:  # it names a description; a base offset may come before it
        description = _number(header, 16 if flags & 1 else 8)
    is_protected = track.description(description - 1)
    if is_protected:
        overrides = (cenc.piff_override(uuid) for uuid in parts.get(b"uuid", []))
        is_protected = next((override for override in overrides if override is not None), True)
    samples = sum(_number(trun, 4) for trun in parts.get(b"trun", []))
    return _Fragment(
        track,
        samples,
        is_protected,
        *_grouping(*(parts.get(kind, []) for kind in (b"sgpd", b"sbgp", b"csgp"))),
    )
