"""What the device's thread does with a batch: load a model, or encode windows with one."""

from __future__ import annotations

from collections.abc import Sequence

from db.errors import VideoError
from workers.engine import outcomes
from workers.engine.device import Device, Started
from workers.engine.encoding import Bound, Encoding
from workers.engine.lanes import Piece

#: The lane whose items are models to load, one a batch; those of all others are videos to encode.
LOAD_LANE = "load"


class DeviceWork:
    """The `Work` of the engine's batcher."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def start(self, lane: str, pieces: Sequence[Piece], *, precise: bool) -> Bound | Started:
        if lane == LOAD_LANE:
            return self._device.load(pieces[0].item.payload)
        return self._device.start(pieces, precise=precise)

    def is_done(self, started: Bound | Started) -> bool:
        return isinstance(started, Bound) or self._device.is_done(started)

    def finish(self, started: Bound | Started) -> Sequence[Bound | Encoding | VideoError]:
        return [started] if isinstance(started, Bound) else self._device.finish(started)

    def join(self, parts: Sequence[Encoding]) -> Encoding:
        return outcomes.join(parts)
