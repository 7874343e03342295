"""What revision 0009 wrote as comments. They stand in `db.dictionary` now, for all revisions, and are
written when all revisions are there.
"""

from __future__ import annotations

COMMENTS: dict[str, str] = {}
