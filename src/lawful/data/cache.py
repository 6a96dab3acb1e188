"""Where downloads and generated data are kept."""

import os
from pathlib import Path


def cache() -> Path:
    """`$XDG_CACHE_HOME/lawful`, else `~/.cache/lawful`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lawful"
