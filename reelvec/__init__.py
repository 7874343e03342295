"""reelvec in Python: the vectors, neighbours and scores of a catalogue as numpy arrays.

    import reelvec

    with reelvec.connect() as catalogue:
        ids, vectors = catalogue.vectors("x-clip")

All the rest is in `docs/python.md`. Nothing here needs torch, but for `search` by words and files,
and `embed`.
"""

# isort: off
import reelvec_origin  # noqa: F401 - before anything else of ours is imported
# isort: on

from reelvec.catalogue import Catalogue, Scores, Vectors, connect
from reelvec.local import embed

__all__ = ["Catalogue", "Scores", "Vectors", "connect", "embed"]
