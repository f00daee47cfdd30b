"""Hook of the documentation site: links that lead out of docs/ become paths of the repository, as text that says so."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with ``[text](../cards/x.md)`` as ``text (`cards/x.md` in the repository)``."""
    return _OUTSIDE.sub(lambda found: f"{found[1]} (`{found[2]}` in the repository)" if found[1] != found[2] else f"`{found[2]}`", markdown)
