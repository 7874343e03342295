"""Only the id of a video is believed; whatever else lies in the queue has a reason for being
dropped.
"""

from __future__ import annotations

import json

import pytest

from tests.garbage import FORGED, GARBAGE
from workers.contract import MalformedMessageError
from workers.delivery import messages


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_refused_with_a_reason(kind: str) -> None:
    with pytest.raises(MalformedMessageError, match=r"\w{3}"):
        messages.read(GARBAGE[kind])


@pytest.mark.parametrize("kind", FORGED)
def test_of_a_forged_message_only_the_id_is_left(kind: str) -> None:
    clean = messages.write(messages.read(FORGED[kind]), queue="reelvec", tag="t")
    assert clean["headers"] == {
        "task": "reelvec.embed",
        "id": "t",
        "argsrepr": "",
        "kwargsrepr": "",
    }
    assert clean["properties"].keys() == {"body_encoding", "delivery_tag", "delivery_info"}


def test_what_is_written_is_read_again() -> None:
    raw = json.dumps(messages.write(2**40, queue="reelvec", tag="t")).encode()
    assert messages.read(raw) == 2**40
    assert len(raw) < messages.MAX_BYTES // 10
