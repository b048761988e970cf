"""A hash of what a problem is, the same in another process and for a model built anew."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from etude.inspection.model import leaves

# Layers that, without a seed, draw one and write it into their config. The others of Keras
# 3.15 write the `None` that they were given.
_DRAWN = frozenset(("RandomCrop",))


def architecture(model: Any) -> str:
    """A text for the model's architecture, without the names that Keras counts up.

    Layers, their settings, shapes and what is frozen; not the weights' values. What a custom
    layer does not put into its config is not seen.
    """
    import keras

    parts: list[Any] = [type(model).__name__, str(model.dtype_policy.name)]
    for layer in leaves(model):
        shapes = [[list(w.shape), bool(w.trainable)] for w in layer.weights]
        parts.append([type(layer).__name__, _config(layer), shapes])
    # A custom layer may hold layers of its own: all weights once more, in order.
    parts.append([[list(w.shape), str(w.dtype), bool(w.trainable)] for w in model.weights])
    if getattr(model, "inputs", None) and not isinstance(model, keras.Sequential):
        parts.append(_config(model))
    return _anonymous(json.dumps(parts, sort_keys=True, default=lambda o: type(o).__name__))


def _config(layer: Any) -> Any:
    try:
        config = layer.get_config()
    except NotImplementedError:  # a custom layer without one: its weights still count
        return None
    settings = {name: value for name, value in config.items() if name != "build_config"}
    kinds = {kind.__name__ for kind in type(layer).__mro__}
    return _without_drawn_seeds(settings, drawn=bool(kinds & _DRAWN))


def _without_drawn_seeds(config: Any, *, drawn: bool = False) -> Any:
    """A config, and those within it, without the seeds that their layers may have drawn."""
    if isinstance(config, dict):
        inner = config.get("class_name") in _DRAWN
        return {
            name: _without_drawn_seeds(value, drawn=inner and name == "config")
            for name, value in config.items()
            if not (drawn and name == "seed")
        }
    if isinstance(config, list | tuple):
        return [_without_drawn_seeds(value) for value in config]
    return config


def _anonymous(text: str) -> str:
    """The text with layer names replaced by numbers in order of appearance."""
    text = re.sub(r'"shared_object_id": \d+', '"shared_object_id": 0', text)
    names = dict.fromkeys(re.findall(r'"name": "([^"]+)"', text))
    numbers = {name: f"#{index}" for index, name in enumerate(names)}
    return re.sub(r'"([^"]*)"', lambda m: f'"{numbers.get(m[1], m[1])}"', text)


def digest(parts: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of whatever is ready for JSON."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
