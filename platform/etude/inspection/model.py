"""Taking in a model: is it one, can it be trained here, and what goes in and comes out."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etude.errors import ModelError
from etude.inspection import _graph
from etude.saving import load_model

Shape = tuple[int | None, ...]
_OWN_ENTRIES = ("fit", "evaluate")
_OWN_LOOPS = ("train_step", "test_step", "make_train_function", "make_test_function")


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """What a model is.

    Attributes:
        kind: `"Sequential"`, `"Functional"` or `"subclassed"`.
        input_shape: What it takes, without the batch axis; `None` where it does not say.
        output_shape: What it gives for the images at hand, without the batch axis.
        parameters: Numbers in all weights.
        trainable: Numbers in the trainable weights.
        layers: Layers, those of nested models included.
        policy: Name of the dtype policy.
        own_compute_loss: Whether the class overrides `compute_loss`.
    """

    kind: str
    input_shape: Shape | None
    output_shape: Shape
    parameters: int
    trainable: int
    layers: int
    policy: str
    own_compute_loss: bool


def _refuse(received: str, advice: str) -> ModelError:
    return ModelError(
        "This is no Keras model.",
        required="a keras.Model instance, or the path of a .keras file",
        received=received,
        advice=advice,
    )


def take(model: Any) -> Any:
    """The model itself, or the one loaded from a `.keras` file (in safe mode).

    Raises:
        ModelError: Not a Keras 3 model, a file that cannot be loaded, or a class with its
            own training loop.
    """
    import keras

    if isinstance(model, str | os.PathLike):
        model = _load(Path(model))
    if not isinstance(model, keras.Model):
        raise _stranger(model)
    for name in _OWN_LOOPS:
        own = getattr(type(model), name) is not getattr(keras.Model, name)
        if own or name in vars(model):
            raise ModelError(
                f"The model has its own `{name}`, which Étude's training step would replace.",
                required="a model trained by Keras' own train_step and test_step",
                received=f"{type(model).__name__}.{name}",
                advice=(
                    "move what it computes into `call` or `compute_loss` (which is honoured), or "
                    "train this model with its own `fit`"
                ),
            )
    check_own_fit(model)
    return model


def check_own_fit(model: Any) -> None:
    """Raises a `ModelError` where the model's class has a `fit` or `evaluate` of its own.

    What that does to the data (KerasHub's tasks apply their preprocessor there) would be
    left out: Étude hands batches to Keras' own loop. A KerasHub task without a preprocessor
    does nothing to them, and is taken.
    """
    import keras

    for name in _OWN_ENTRIES:
        given = name in vars(model)
        owner = next((c for c in type(model).__mro__ if name in vars(c)), keras.Model)
        if not given and getattr(type(model), name) is getattr(keras.Model, name):
            continue
        hub = not given and owner.__module__.split(".")[0] == "keras_hub"
        if hub and getattr(model, "preprocessor", None) is None:
            continue
        if hub:
            raise ModelError(
                f"The model's own `{name}` applies a preprocessor, which Étude would leave out.",
                required="a KerasHub task with preprocessor=None",
                received=f"{type(model).__name__} with the preprocessor "
                f"{type(model.preprocessor).__name__}",
                advice=(
                    "apply the preprocessor to the data (`data.map(model.preprocessor)`) and set "
                    "`model.preprocessor = None`, or build a model around its backbone"
                ),
            )
        raise ModelError(
            f"The model has its own `{name}`, which Étude would not call.",
            required="a model trained by Keras' own fit and evaluate",
            received=f"{type(model).__name__}.{name}",
            advice=(
                "move what it does to the data into the data set, and what it computes into "
                "`call` or `compute_loss` (which is honoured), or train this model by itself"
            ),
        )


def _load(path: Path) -> Any:
    if path.suffix != ".keras":
        raise _refuse(
            f"the path {str(path)!r}",
            "save the model with `model.save('name.keras')` and pass that",
        )
    if not path.is_file():
        raise _refuse(f"{str(path)!r}, which does not exist", "mend the path")
    try:
        return load_model(path, safe_mode=True)
    except Exception as error:
        raise ModelError(
            f"{path.name} cannot be loaded.",
            required="a .keras file that Keras loads in safe mode",
            received=f"{type(error).__name__}: {_short(error)}",
            advice=(
                "load it yourself (`keras.models.load_model` with custom_objects, or with "
                "safe_mode=False for a file you trust) and pass the model"
            ),
        ) from error


def _stranger(model: Any) -> ModelError:
    import keras

    roots = {base.__module__.split(".")[0] for base in type(model).__mro__}
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if model is None:
        return _refuse("None", "pass the model as the first argument")
    if isinstance(model, type):
        return _refuse(f"the class {model.__name__}", f"pass an instance: `{model.__name__}(...)`")
    if isinstance(model, keras.layers.Layer):
        return _refuse(f"the layer {kind}", "wrap it: `keras.Sequential([layer])`")
    if "torch" in roots:
        return _refuse(f"{kind}, a PyTorch module", "rebuild the model in Keras 3")
    if "tf_keras" in roots:
        return _refuse(f"{kind}, of Keras 2", "rebuild the model with Keras 3: `import keras`")
    if callable(model) and hasattr(model, "__name__"):
        return _refuse(f"the function {model.__name__}", "call it, and pass the model it returns")
    return _refuse(kind, "build the model with Keras 3 and pass that")


def _short(error: BaseException, most: int = 600) -> str:
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def wants(model: Any) -> Shape | None:
    """The shape of image that the model takes, without the batch axis, where it says so.

    `(height, width)` models take one-channel images: the shape given is `(height, width, 1)`.

    Raises:
        ModelError: Several inputs, or an input that is no image.
    """
    import keras

    if not _graph.has_graph(model):
        return None
    named = not isinstance(model, keras.Sequential) and isinstance(model.input, dict)
    if len(model.inputs) != 1 or named:
        raise ModelError(
            "The model has more than one input, or named inputs.",
            required="one image in, one output",
            received=f"{len(model.inputs)} input(s): {[t.name for t in model.inputs]}",
            advice="wrap it in a model with one image input: `keras.Model(image, out)`",
        )
    shape: Shape = tuple(model.inputs[0].shape[1:])
    if len(shape) == 2:
        return (*shape, 1)
    if len(shape) != 3:
        raise ModelError(
            "The model does not take images.",
            required="inputs (height, width, channels), or (height, width)",
            received=f"inputs of shape {shape}",
            advice="begin the model with `keras.Input((height, width, channels))`, then flatten",
        )
    return shape


def inspect(model: Any, images: np.ndarray[Any, Any]) -> ModelFacts:
    """Builds the model where needed, and says what it is.

    Args:
        model: A `keras.Model`. Only an unbuilt one is changed: it is built.
        images: `(samples, height, width, channels)`, one sample or more.

    Raises:
        ModelError: It cannot be built or run on such images, has several outputs, weights
            that are not finite, or nothing to train.
    """
    import keras

    image_shape = tuple(images.shape[1:])
    sequential = isinstance(model, keras.Sequential)
    try:
        if not model.built:
            if sequential:
                model.build((None, *image_shape))
            else:
                model(images[:1].astype(np.float32), training=False)
        output_shape = _outputs(model, images)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            "The model cannot be run on these images.",
            required=f"a model that takes images of shape {image_shape}",
            received=f"its own error: {type(error).__name__}: {_short(error)}",
            advice="mend the model, or bring the images to the shape it takes (`resize=`)",
        ) from error
    _check_weights(model)
    graph = _graph.has_graph(model)
    return ModelFacts(
        kind="Sequential" if sequential else "Functional" if graph else "subclassed",
        input_shape=tuple(model.inputs[0].shape[1:]) if graph else None,
        output_shape=output_shape,
        parameters=_numbers(model.weights),
        trainable=_numbers(model.trainable_weights),
        layers=sum(1 for _ in leaves(model)),
        policy=str(model.dtype_policy.name),
        own_compute_loss=type(model).compute_loss is not keras.Model.compute_loss,
    )


def _numbers(weights: list[Any]) -> int:
    return int(sum(int(np.prod(weight.shape)) for weight in weights))


def _outputs(model: Any, images: np.ndarray[Any, Any]) -> Shape:
    """The shape of one output, without running the model where it keeps a graph."""
    if _graph.has_graph(model):
        shape = model.compute_output_shape((None, *images.shape[1:]))
        if not isinstance(shape, tuple) or not all(n is None or isinstance(n, int) for n in shape):
            raise _several(f"{len(model.outputs)} output(s), in a {type(shape).__name__}")
        return tuple(shape[1:])
    outputs = run(model, images[:1])
    if not hasattr(outputs, "shape"):
        raise _several(f"a {type(outputs).__name__} of outputs")
    if len(outputs.shape) == 0 or outputs.shape[0] != 1:
        raise ModelError(
            "The model does not keep the batch axis.",
            required="one output for each image: outputs (batch, ...)",
            received=f"outputs of shape {tuple(outputs.shape)} for a batch of 1",
            advice="let `call` return one row for each image",
        )
    return tuple(outputs.shape[1:])


def _several(received: str) -> ModelError:
    return ModelError(
        "The model has several outputs, or wraps its output in a list or dict.",
        required="one image in, one output",
        received=received,
        advice="wrap the output that is to be trained: `keras.Model(model.input, that_output)`",
    )


def run(model: Any, images: np.ndarray[Any, Any], values: Sequence[tuple[Any, Any]] = ()) -> Any:
    """The model's outputs in inference mode; whatever it would update is dropped.

    Args:
        model: A built model.
        images: `(samples, height, width, channels)` of any dtype; given as float32.
        values: Variables of the model with the values that they have for this run.
    """
    import keras

    # `stateless_call` would go past `__call__`, and hand `training` to a `call` without it.
    with keras.StatelessScope(state_mapping=list(values)):
        return model(images.astype(np.float32), training=False)


def leaves(model: Any) -> list[Any]:
    """All layers of the model that hold no layers themselves, in order of creation."""
    import keras

    found: list[Any] = []
    for layer in getattr(model, "layers", []):
        if isinstance(layer, keras.Model):
            found.extend(leaves(layer))
        else:
            found.append(layer)
    return found


def _check_weights(model: Any) -> None:
    import keras

    if not model.trainable_weights:
        frozen = "all its layers are frozen" if model.weights else "it has no weights at all"
        raise ModelError(
            "The model has nothing to train.",
            required="at least one trainable weight",
            received=f"a model with {_numbers(model.weights)} parameters: {frozen}",
            advice="set `layer.trainable = True` where it should learn, or add a `Dense` layer",
        )
    for weight in model.weights:
        if not keras.backend.is_float_dtype(weight.dtype):
            continue
        finite = keras.ops.isfinite(weight)
        if not bool(keras.ops.all(finite)):
            bad = int((~np.asarray(keras.ops.convert_to_numpy(finite))).sum())
            raise ModelError(
                "The model's weights are not finite.",
                required="finite weights to start from",
                received=f"{bad} NaN or infinite values in {weight.path}",
                advice="build the model anew, or load weights from before it diverged",
            )
