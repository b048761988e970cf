"""Self-supervised pre-training: a Trainer whose step asks two views of each image for the same."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from etude.data.resident import own_part
from etude.errors import ModelError, RecipeError
from etude.recipe import Recipe
from etude.ssl.knn import effective_rank, weighted_knn
from etude.ssl.objectives import Head, Objective
from etude.training import _keras_compat, flops, gradients, low_resolution
from etude.training.backends import tensorflow as backend
from etude.training.linear_probe import linear_probe
from etude.training.trainer import Trainer, gathered
from etude.training.values import host

COLLAPSED = 0.1
"""The spread below which embeddings count as all the same."""
# Steps between two looks at the loss, which wait for the device.
LOOKED_AT = 64


class Siamese(keras.Model):  # type: ignore[misc, unused-ignore]
    """A backbone with the heads of an objective, which are thrown away after.

    Args:
        backbone: From images to features `(batch, features)`.
        objective: Whose heads.
        seed: Of the heads' initial weights.
    """

    def __init__(self, backbone: Any, objective: Objective, seed: int) -> None:
        super().__init__(name="siamese", dtype=backbone.dtype_policy)
        self.backbone = backbone
        self.projector = built(objective.projector, int(backbone.output_shape[-1]), seed)
        width = objective.projector.widths[-1]
        self.predictor = None
        if objective.predictor is not None:
            self.predictor = built(objective.predictor, width, seed + 1)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Embeddings of images, `(batch, width)` float32."""
        return self.projector(self.backbone(inputs, training=training), training=training)

    def entire(self, inputs: Any, training: bool | None = None) -> Any:
        """As `call`, with the predictor behind where there is one."""
        said = self(inputs, training=training)
        return said if self.predictor is None else self.predictor(said, training=training)


@dataclasses.dataclass(frozen=True)
class HardViews:
    """Hard Augment: of several views of an image, those two are kept whose loss is largest.

    All pairs are scored at a lower resolution, by a pass that leaves no trace (Koçyiğit 2023,
    section 3.3.3).

    Attributes:
        views: Of each image, at least 3.
        resolution: Of the scoring, as a share of the images' sides.
    """

    views: int = 6
    resolution: float = 64 / 224

    def __post_init__(self) -> None:
        if not (self.views >= 3 and 0.0 < self.resolution <= 1.0):
            raise RecipeError(
                "There is nothing to choose among, or nothing to choose by.",
                required="3 views and more, and a resolution above 0 and up to 1",
                received=f"views={self.views!r}, resolution={self.resolution!r}",
                advice="mend the numbers",
            )


def hardest(views: Sequence[Any], losses: Mapping[tuple[int, int], Any]) -> tuple[Any, Any]:
    """Of each image the two views whose loss is largest.

    Args:
        views: Each `(images, height, width, channels)`.
        losses: Of pairs of them, each `(images,)`.
    """
    pairs = list(losses)
    worst = ops.argmax(ops.stack([losses[pair] for pair in pairs]), axis=0)
    images = ops.shape(worst)[0]
    flat = ops.reshape(ops.stack(views), (-1, *views[0].shape[1:]))

    def at(end: int) -> Any:
        which = ops.take(ops.convert_to_tensor([pair[end] for pair in pairs]), worst)
        return ops.take(flat, which * images + ops.arange(images), axis=0)

    return at(0), at(1)


class Pretrainer(Trainer):
    """Trains a backbone by an objective, with Keras' own `fit`.

    A view of an image is what the recipe's policy of augmentation makes of it. Each view goes
    through the network by itself, with the statistics of its own kind.

    Args:
        backbone: From images to features; it is trained in place.
        objective: What views are to say of each other.
        recipe: Optimizer, schedule and policy.
        value_range: Lowest and highest value that a pixel can have.
        hard: How views are chosen among more than two; `None` has two.
        seed: Of heads, order and views.

    Raises:
        RecipeError: The policy leaves images as they are, or the backbone does not take smaller
            ones, which `hard` would have.
        ModelError: The objective needs a copy of the backbone, and it cannot be copied.
    """

    def __init__(
        self,
        backbone: Any,
        objective: Objective,
        recipe: Recipe,
        *,
        value_range: tuple[float, float],
        hard: HardViews | None = None,
        seed: int = 0,
    ) -> None:
        if not recipe.augmentation.policy.draws_anything:
            raise RecipeError(
                "Two views of an image would be the same.",
                required="a policy of augmentation that changes images",
                received=str(recipe.augmentation.policy),
                advice="take `policy='contrastive'`",
            )
        network = Siamese(backbone, objective, seed)
        super().__init__(network, recipe, value_range=value_range, seed=seed)
        self.objective = objective
        self.spread = keras.metrics.Mean(name="spread")
        self.kept = {
            name: keras.Variable(value, dtype="float32", trainable=False, name=name)
            for name, value in objective.state().items()
        }
        copy = _copied(network) if objective.target == "momentum" else None
        # Within a function: Keras would train what the Trainer holds.
        self._copy: Callable[[], Any] = lambda: copy
        self._copies = low_resolution.Resolution()
        self.hard = hard
        if hard is not None:
            share = hard.resolution
            self._copies.sides = sides = low_resolution.share_of(backbone, share)
            scored = [None if one is None else shrunk(one, sides) for one in (network, copy)]
            self._scoring: Callable[[], Any] = lambda: scored

    @property
    def kept_variables(self) -> list[Any]:
        """As of a Trainer: what the objective keeps, and the copy's."""
        copy = self._copy()
        copied = [] if copy is None else [*copy.backbone.variables, *copy.projector.variables]
        return [*self.kept.values(), *copied]

    def sides(self) -> tuple[int, int]:
        """As `Trainer.sides`."""
        return low_resolution.sides_of(self.model.backbone)

    def _twin(self, sides: tuple[int, int]) -> Any:
        copy = self._copy()
        if copy is not None:
            self._copies.twins[sides] = shrunk(copy, sides)
        return shrunk(self.model, sides)

    def _copied_at(self, view: Any) -> Any:
        """The slower copy's embeddings of a view, at the size that is shown."""
        sides = self.resolution.sides
        if sides is None:
            return self._copy()(view, training=True)
        return self._copies.twins[sides](low_resolution.resized(view, sides), training=True)

    def _views(self, images: Any, kept: Mapping[str, Any]) -> tuple[Any, Any]:
        """Two views of each image."""
        assert self.augmenter is not None
        if self.hard is None:
            return self.augmenter.images(images), self.augmenter.images(images)
        views = [self.augmenter.images(images) for _ in range(self.hard.views)]
        return hardest(views, self.pair_losses(views, kept))

    def pair_losses(
        self, views: Sequence[Any], kept: Mapping[str, Any]
    ) -> dict[tuple[int, int], Any]:
        """How badly the views of each image say each other, `(images,)` for every pair of them.

        In the step's own terms but for the resolution; nothing is moved by it.
        """
        network, copy = self._scoring()
        sides = self._copies.sides
        assert sides is not None
        objective, head = self.objective, self.model.predictor
        with keras.StatelessScope():
            small = [low_resolution.resized(view, sides) for view in views]
            said = [self._forward(view, True, network) for view in small]
            given = said if copy is None else [copy(view, training=True) for view in small]
            asked = said if head is None else [head(one, training=True) for one in said]
            losses = {
                (i, j): objective.losses(asked[i], given[j], kept)
                + objective.losses(asked[j], given[i], kept)
                for i, j in itertools.combinations(range(len(views)), 2)
            }
        return {pair: ops.stop_gradient(loss) for pair, loss in losses.items()}

    def train_step(self, data: Any) -> Any:
        """One update by two views of a batch."""
        images, objective = gathered(own_part(data)).x, self.objective
        kept = {name: variable.value for name, variable in self.kept.items()}
        views = self._views(images, kept)
        copy = self._copy()
        others = [] if copy is None else [self._copied_at(view) for view in views]

        def function() -> tuple[Any, Any]:
            said = [self._forward(view, True) for view in views]
            given = others or said
            if objective.target == "stopped":
                given = [ops.stop_gradient(one) for one in said]
            head = self.model.predictor
            asked = said if head is None else [head(one, training=True) for one in said]
            losses = [objective.loss(asked[i], given[1 - i], kept) for i in range(2)]
            loss = (losses[0] + losses[1]) / 2.0
            loss = sum(_keras_compat.additional_losses(self), start=loss)
            return self.optimizer.scale_loss(loss), (loss, said, given)

        _, (loss, said, given), grads = backend.value_and_grad(
            function, lambda: self.trainable_variables
        )
        limit = self.recipe.regularization.clip_norm
        if limit is not None:
            grads = gradients.clip_by_global_norm(grads, self._scaled_limit(limit))
        self._update(grads, loss)
        after = objective.updated(kept, ops.concatenate(given, axis=0))
        for name, variable in self.kept.items():
            variable.assign(after[name])
        if copy is not None:
            _follow(copy, self.model, objective.keep)
        _keras_compat.track_loss(self, loss, ops.shape(images)[0])
        self.spread.update_state(spread(said[0]))
        return {metric.name: metric.result() for metric in self.metrics}

    def flops(self, image: Sequence[int]) -> int:
        """Operations of a step for each image of a batch, at the size that is shown now.

        Forward passes of views, twice as much again for each that has a backward one, and those of
        the copy and of what is scored. Augmentation, the loss and the update are left out.

        Args:
            image: Height, width and channels of an image.
        """

        def passes(network: Any, sides: tuple[int, int] | None) -> int:
            shape = (*(sides or image[:2]), *image[2:])
            return flops.forward(functools.partial(network.entire, training=True), shape)

        sides, copy = self.resolution.sides, self._copy()
        shown = self.model if sides is None else self.resolution.twins[sides]
        count = 2 * (1 + flops.BACKWARD) * passes(shown, sides)
        if copy is not None:
            count += 2 * passes(copy if sides is None else self._copies.twins[sides], sides)
        if self.hard is not None:
            scored = [one for one in self._scoring() if one is not None]
            count += self.hard.views * sum(passes(one, self._copies.sides) for one in scored)
        return count


class Count(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Counts the operations of a pre-training.

    Args:
        image: Height, width and channels of an image.
        batch: Images in a batch.

    Attributes:
        total: Operations so far.
    """

    def __init__(self, image: Sequence[int], batch: int) -> None:
        super().__init__()
        self.image, self.batch = image, batch
        self.total = 0
        self._each: dict[Any, int] = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds a step."""
        trainer: Any = self.model
        sides = trainer.resolution.sides
        if sides not in self._each:
            self._each[sides] = self.batch * trainer.flops(self.image)
        self.total += self._each[sides]


class Finite(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Ends a training whose loss is not finite any more.

    Attributes:
        lost: That loss, if there was one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost: float | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks after every so many steps: the logs have a mean over those of the epoch."""
        if (batch + 1) % LOOKED_AT == 0:
            self._look(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks after the last step, too."""
        self._look(logs)

    def _look(self, logs: Mapping[str, Any] | None) -> None:
        trainer: Any = self.model
        loss = float(host((logs or {}).get("loss", 0.0)))
        if not np.isfinite(loss):
            self.lost, trainer.stop_training = loss, True


class Neighbours(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Tells after epochs how good the features are: `knn_accuracy`, their effective `rank`, and
    `probe_accuracy` of a linear classifier.

    Args:
        backbone: From images to features.
        bank: Labelled images, `(x, y)`.
        queries: Others, whose classes are to be told.
        every: Epochs between two looks; the last one is looked at in any case.
        probe: Whether a linear classifier is trained after the last epoch.
        batch_size: Images that are computed at once.
        neighbours: As of `weighted_knn`.
        temperature: As of `weighted_knn`.
    """

    def __init__(
        self,
        backbone: Any,
        bank: tuple[Any, Any],
        queries: tuple[Any, Any],
        *,
        every: int = 1,
        probe: bool = False,
        batch_size: int = 256,
        neighbours: int = 200,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone, self.bank, self.queries = backbone, bank, queries
        self.every, self.probe, self.batch_size = every, probe, batch_size
        self.neighbours, self.temperature = neighbours, temperature

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks, and adds to the logs what Keras' history keeps."""
        trainer: Any = self.model
        last = trainer.stop_training or epoch + 1 == (self.params or {}).get("epochs")
        if (epoch + 1) % self.every and not last:
            return
        found = self.look(probe=self.probe and last)
        if logs is not None:
            logs |= found

    def look(self, *, probe: bool = False) -> dict[str, float]:
        """The accuracy and the rank, as of now; with a linear classifier where it is asked for."""
        (x, labels), (others, truth) = self.bank, self.queries
        features = [
            np.asarray(
                self.backbone.predict(part, batch_size=self.batch_size, verbose=0), np.float32
            )
            for part in (x, others)
        ]
        labels, truth = (np.asarray(part).reshape(-1).astype(np.int64) for part in (labels, truth))
        told = weighted_knn(
            features[0],
            labels,
            features[1],
            neighbours=self.neighbours,
            temperature=self.temperature,
        )
        found = {
            "knn_accuracy": float(np.mean(told == truth)),
            "rank": effective_rank(features[1][:2048]),
        }
        if probe:
            found["probe_accuracy"] = linear_probe(features[0], labels, features[1], truth)
        return found


def built(head: Head, inputs: int, seed: int) -> keras.Sequential:
    """The layers of a head, in float32.

    Args:
        head: Which.
        inputs: Width of what comes in.
        seed: Of the initial weights.
    """
    layers = keras.layers
    stack: list[Any] = [layers.Input((inputs,))]
    seeds = np.random.default_rng(seed).integers(2**31, size=len(head.widths))
    for place, (width, own) in enumerate(zip(head.widths, seeds, strict=True), start=1):
        last = place == len(head.widths)
        start = keras.initializers.GlorotUniform(seed=int(own))
        if head.cosines and last:
            stack.append(layers.UnitNormalization(dtype="float32"))
            stack.append(_prototypes(width, start))
            break
        linear = head.cosines and place == len(head.widths) - 1
        bias = linear or (last and not head.normalized)
        stack.append(layers.Dense(width, use_bias=bias, kernel_initializer=start, dtype="float32"))
        if linear:
            continue
        if not last or head.normalized:
            shifted = not last
            stack.append(
                layers.BatchNormalization(
                    momentum=0.9, epsilon=1e-5, center=shifted, scale=shifted, dtype="float32"
                )
            )
        if not last:
            stack.append(layers.Activation("relu", dtype="float32"))
    made = keras.Sequential(stack)
    if head.cosines:  # from the first step on, and not only after it
        kernel = made.layers[-1].kernel
        kernel.assign(kernel.constraint(kernel.value))
    return made


def _prototypes(width: int, start: Any) -> Any:
    """A dense layer whose columns have a length of 1, also after every step."""
    unit = keras.constraints.UnitNorm(axis=0)
    return keras.layers.Dense(
        width, use_bias=False, kernel_initializer=start, kernel_constraint=unit, dtype="float32"
    )


def spread(embeddings: Any) -> Any:
    """How far embeddings are from being all the same: the mean standard deviation of the columns
    of rows of length 1, over 1 / √width; 1 where they point in all directions alike, 0 where all
    point in one (Chen & He 2021, section 4.1).

    Args:
        embeddings: `(images, width)`.
    """
    rows = ops.normalize(ops.cast(embeddings, "float32"), axis=-1)
    return ops.mean(ops.std(rows, axis=0)) * float(embeddings.shape[-1]) ** 0.5


def _copied(network: Siamese) -> Siamese:
    """Another network of the same layers and weights."""
    try:
        backbone = keras.models.clone_model(network.backbone)
    except Exception as error:
        raise ModelError(
            "The backbone cannot be copied, which this objective needs.",
            required="layers with a working `get_config`",
            received=f"{type(error).__name__}: {error}",
            advice="give them one, or take an objective without a copy, such as 'simsiam'",
        ) from error
    copy = _siamese(backbone, keras.models.clone_model(network.projector), None, "copy")
    for own, other in _pairs(copy, network):
        own.assign(other.value)
    return copy


def shrunk(network: Siamese, sides: tuple[int, int]) -> Siamese:
    """The same network on images of other sides: its layers and its heads."""
    backbone = low_resolution.at(network.backbone, sides)
    return _siamese(backbone, network.projector, network.predictor, "smaller")


def _siamese(backbone: Any, projector: Any, predictor: Any, name: str) -> Siamese:
    """A network of parts that there are."""
    made = Siamese.__new__(Siamese)
    keras.Model.__init__(made, name=name, dtype=backbone.dtype_policy)
    made.backbone, made.projector, made.predictor = backbone, projector, predictor
    made.built = True
    return made


def _pairs(copy: Siamese, network: Siamese) -> Sequence[tuple[Any, Any]]:
    """Each variable of the copy's with the one that it is of."""
    own = [*copy.backbone.variables, *copy.projector.variables]
    others = [*network.backbone.variables, *network.projector.variables]
    return list(zip(own, others, strict=True))


def _follow(copy: Siamese, network: Siamese, keep: float) -> None:
    """Moves the copy's weights towards the network's; statistics are its own."""
    trained = {
        id(v) for part in (network.backbone, network.projector) for v in part.trainable_variables
    }
    for own, other in _pairs(copy, network):
        if id(other) in trained:
            share = ops.cast(1.0 - keep, own.dtype)
            mean = own.value + (other.value - own.value) * share
            unit = getattr(own, "constraint", None)  # means of columns of length 1 are shorter
            own.assign(mean if unit is None else unit(mean))
