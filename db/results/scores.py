"""Probabilities in bulk, as one numpy array."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db.errors import UsageError

_CATEGORIES = text("SELECT tagger_id, categories FROM reelvec.taggers WHERE tagger = :tagger")
_SCORES = text("""
SELECT video_id, probabilities FROM reelvec.scores WHERE tagger_id = :tagger_id ORDER BY video_id
""")


def of_tagger(
    connection: Connection, tagger: str
) -> tuple[npt.NDArray[np.int64], list[str], npt.NDArray[np.float32]]:
    """Ids int64 [n], the K categories, probabilities float32 [n, K]. Raises `UsageError` for a name
    that no tagger has.
    """
    found = connection.execute(_CATEGORIES, {"tagger": tagger}).first()
    if found is None:
        names = connection.execute(text("SELECT tagger FROM reelvec.taggers ORDER BY 1")).scalars()
        raise UsageError(f"there is no tagger {tagger!r}; there are {', '.join(names) or 'none'}")
    rows = connection.execute(_SCORES, {"tagger_id": found.tagger_id}).all()
    probabilities = np.array([row.probabilities for row in rows], np.float32)
    return (
        np.array([row.video_id for row in rows], np.int64),
        list(found.categories),
        probabilities.reshape(len(rows), len(found.categories)),
    )
