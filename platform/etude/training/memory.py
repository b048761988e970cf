"""Host memory: what the process has used at most, and whether more of the same would fit.

On Linux an allocation too large gets the process killed without an exception, so a size that may
not fit must not be tried.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The share of the machine's memory that the process may come to use.
SHARE = 0.8
_CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def limit() -> int | None:
    """Bytes of memory that the machine or the container has; `None` where it cannot be told."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):
        return None
    for name in _CGROUP:
        path = Path(name)
        if path.exists():
            text = path.read_text(encoding="ascii").strip()
            if text.isdigit():
                found.append(int(text))
    return min(found)


def peak() -> int | None:
    """Bytes that the process has held at most; `None` where it cannot be told."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def held() -> int:
    """Bytes that the process holds now; 0, the cautious answer, where it cannot be told."""
    path = Path("/proc/self/statm")
    if not path.exists():
        return 0
    return int(path.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fits(before: int, factor: float) -> bool:
    """Whether work `factor` times as large as the largest so far would fit, cautiously.

    Args:
        before: What was held before that work, from `held`.
        factor: How many times as large.
    """
    most, available = peak(), limit()
    if most is None or available is None:
        return False
    return most + (factor - 1.0) * max(0, most - before) <= SHARE * available
