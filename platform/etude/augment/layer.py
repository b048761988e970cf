"""A policy as a Keras layer, for anyone's model or pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import keras
from keras import ops

from etude.augment import apply, mixing, targets
from etude.augment.drawing import Draw, Tables, draw
from etude.augment.policy import Policy
from etude.errors import EtudeError

KEYS = ("images", "masks", "instances", "depth", "boxes", "keypoints", "labels")


@keras.saving.register_keras_serializable(package="etude")
class Augment(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """Augments images, and what belongs to them, by a policy.

    Every image draws for itself. The policy is held in tensors: `set_policy` changes what a
    compiled model or pipeline does without tracing anything anew. Outside of training, images
    come out as they are, in the layer's dtype.

    Args:
        policy: A `Policy`, or the name of a known one: `"trivialaugment"`, `"randaugment"`,
            `"uniformaugment"`, `"standard_cifar"`, `"standard_imagenet"`, `"none"`.
        value_range: Lowest and highest value that a pixel can have.
        ignore: What masks show beyond the original's edges.
        visibility: Share of a moved box's area that must lie within the frame; others go.
        pairs: Indices of keypoints that change places where an image is mirrored.
        seed: Of all draws; `None` for one at random.
        **options: Those of every Keras layer.

    Call arguments:
        inputs: `(batch, height, width, channels)` images of any real dtype, or a dictionary with
            `"images"` and any of

            - `"masks"`: `(batch, height, width)` or with a last axis of 1; classes.
            - `"instances"`: `(batch, height, width, instances)`; one mask a channel, beyond the
              edges 0.
            - `"depth"`: as masks; beyond the edges 0.
            - `"boxes"`: `(batch, boxes, 4)` left, top, right, bottom in pixels; a row of zeros
              is none.
            - `"keypoints"`: `(batch, points, 3)` x, y in pixels, and whether it is visible.
            - `"labels"`: `(batch, …)` floating-point targets, mixed as the images are; needed
              where the policy mixes.
        training: Whether to augment.

    Returns:
        Images in the layer's compute dtype, or a dictionary of the same keys. Boxes and keypoints
        are float32; a box that is no longer seen is zeros, and a point's last number says whether
        it is.

    Raises:
        EtudeError: Images have no fixed size, or mixing meets no labels or targets that it cannot
            mix. From within a call Keras makes a RuntimeError with the same text of it.

    Example:
        ```python
        augment = etude.augment.Augment("randaugment", value_range=(0, 255), seed=0)
        dataset = dataset.batch(128).map(lambda x, y: (augment(x, training=True), y))
        ```
    """

    def __init__(
        self,
        policy: Policy | str = "trivialaugment",
        value_range: tuple[float, float] = (0.0, 255.0),
        *,
        ignore: float = 255,
        visibility: float = 0.25,
        pairs: tuple[tuple[int, int], ...] = (),
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **options})
        low, high = (float(value) for value in value_range)
        if not low < high:
            raise EtudeError(
                "The value range is empty.",
                required="(low, high) with low < high",
                received=repr(value_range),
                advice="pass the lowest and the highest value that a pixel can have",
            )
        self.value_range = (low, high)
        self.ignore, self.visibility = ignore, visibility
        self.pairs = tuple((int(one), int(other)) for one, other in pairs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.policy = Policy.of(policy)
        self._mixes: bool | None = None  # not known before the first call
        # One set for images of three channels, and one for all others: which it is, is known first
        # in a call, and what a graph assigns it would assign in every step.
        self._tables = [self._made_tables(name) for name in ("coloured", "other")]
        self.set_policy(self.policy)

    def set_policy(self, policy: Policy | str) -> None:
        """Draws from another policy from now on; nothing is traced anew.

        Raises:
            RecipeError: There is none of this name.
            EtudeError: The policy mixes, and the layer was called with what it cannot mix.
        """
        new = Policy.of(policy)
        if self._mixes is False:
            _check_mixing(new, False)
        self.policy = new
        for tables, channels in zip(self._tables, (3, 1), strict=True):
            values = Tables.of(new.for_channels(channels))
            for name, variable in tables.items():
                variable.assign(getattr(values, name))

    def build(self, input_shape: Any) -> None:
        """Checks the inputs' shapes."""
        given = input_shape if isinstance(input_shape, Mapping) else {"images": input_shape}
        _check_keys(given)
        _checked(given["images"])
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Augmented inputs; see the class."""
        given = dict(inputs) if isinstance(inputs, Mapping) else {"images": inputs}
        _check_keys(given)
        x = ops.convert_to_tensor(given["images"])
        _checked(x.shape)
        out = {**given, "images": ops.cast(x, self.compute_dtype)}
        if training:
            out = self._augmented({**given, "images": ops.cast(x, "float32")})
            out["images"] = ops.cast(out["images"], self.compute_dtype)
        return out if isinstance(inputs, Mapping) else out["images"]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Everything keeps its shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """As every Keras layer; the policy as plain lists and numbers."""
        return {
            **super().get_config(),
            "policy": self.policy.to_dict(),
            "value_range": list(self.value_range),
            "ignore": self.ignore,
            "visibility": self.visibility,
            "pairs": [list(pair) for pair in self.pairs],
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """What `get_config` gave."""
        given = Policy.from_dict(config["policy"])
        return cls(**{**config, "policy": given})

    # -- parts -----------------------------------------------------------------------

    def _made_tables(self, prefix: str) -> dict[str, Any]:
        values = vars(Tables.of(self.policy))
        return {
            name: self.add_weight(
                shape=value.shape,
                dtype=str(value.dtype),
                initializer="zeros",
                trainable=False,
                autocast=False,
                name=f"{prefix}_{name}",
            )
            for name, value in values.items()
        }

    def _augmented(self, given: dict[str, Any]) -> dict[str, Any]:
        x = given["images"]
        held = self._tables[0 if x.shape[3] == 3 else 1]
        tables = Tables(**{name: variable.value for name, variable in held.items()})
        batch = ops.shape(x)[0]
        frame = (int(x.shape[1]), int(x.shape[2]))
        drawn: Draw = draw(tables, (batch, *x.shape[1:]), self.seed_generator)
        changed, moved = apply.traced(tuple(x.shape[1:]), self.value_range)(tables, drawn, x)
        out = {**given, "images": changed}
        for key, beyond in (("masks", self.ignore), ("instances", 0), ("depth", 0)):
            if key in given:
                out[key] = targets.masks(moved, given[key], beyond)
        if "boxes" in given:
            rows = ops.cast(given["boxes"], "float32")
            out["boxes"], _ = targets.boxes(
                moved, rows, ops.any(rows != 0.0, axis=-1), self.visibility
            )
        if "keypoints" in given:
            rows = ops.cast(given["keypoints"], "float32")
            places, seen = targets.keypoints(
                moved, rows[..., :2], rows[..., 2] > 0.0, pairs=self.pairs
            )
            out["keypoints"] = ops.concatenate(
                [places, ops.cast(seen, "float32")[..., None]], axis=-1
            )
        return self._mixed(tables, out, batch, frame)

    def _mixed(
        self, tables: Tables, given: dict[str, Any], batch: Any, frame: tuple[int, int]
    ) -> dict[str, Any]:
        labels = ops.convert_to_tensor(given["labels"]) if "labels" in given else None
        able = labels is not None and "float" in str(labels.dtype)
        able = able and set(given) == {"images", "labels"}
        self._mixes = able
        if not able:
            _check_mixing(self.policy, "labels" in given)
            return given
        mix = mixing.draw(tables, batch, frame, self.seed_generator)
        return {
            **given,
            "images": mixing.mixed_images(given["images"], mix),
            "labels": mixing.mixed_targets(labels, mix, frame),
        }


def _check_keys(given: Mapping[str, Any]) -> None:
    if "images" in given and set(given) <= set(KEYS):
        return
    raise EtudeError(
        "The layer cannot augment these.",
        required="'images' and any of " + ", ".join(KEYS[1:]),
        received=", ".join(map(repr, given)) or "nothing",
        advice="pass other entries around the layer",
    )


def _check_mixing(given: Policy, labelled: bool) -> None:
    """Raises an `EtudeError` if a policy mixes, where that cannot be done."""
    if not given.mixes:
        return
    raise EtudeError(
        "The policy mixes images, and their targets cannot be mixed.",
        required="a dictionary of 'images' and floating-point 'labels', such as one-hot ones, "
        "and nothing else",
        received="other targets, or labels by number" if labelled else "no labels",
        advice="use `keras.utils.to_categorical`, or leave mixing out of the policy",
    )


def _checked(shape: Any) -> None:
    if len(shape) == 4 and all(side is not None for side in shape[1:]):
        return
    raise EtudeError(
        "Images need a size that is the same for all.",
        required="(batch, height, width, channels), all but the batch fixed",
        received=repr(tuple(shape)),
        advice="resize images before they are augmented, for example with keras.layers.Resizing",
    )
