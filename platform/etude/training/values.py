"""Values of variables on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def host(variable: Any) -> np.ndarray[Any, Any]:
    """A copy of a variable's value; a view would change along with the variable."""
    return np.array(ops.convert_to_numpy(variable))
