"""Pictures that evidence holds."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any


def decoded(coded: Any) -> Any:
    """A JPEG in base64 as an array; `None` for what is none."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    if not isinstance(coded, str):
        return None
    try:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(coded, validate=True))))
    except (binascii.Error, UnidentifiedImageError, OSError):
        return None
