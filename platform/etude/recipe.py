"""The Recipe: every decision of a run, as names and numbers."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from etude.augment.policy import POLICIES, Policy, read_yaml
from etude.errors import RecipeError

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a step is computed.

    Attributes:
        batch_size: Samples per update of the weights.
        accumulate: Micro-batches that a batch is cut into; the gradients are averaged.
        precision: What the layers compute in while training: `"own"` for that with which the
            model was made, or a Keras policy, `"mixed_bfloat16"` or `"mixed_float16"`. The head
            and the weights stay as they are, and so does evaluation.
        xla: Whether the step is compiled with XLA.
        steps_per_execution: Steps per call of the compiled function.
    """

    batch_size: int = 32
    accumulate: int = 1
    precision: str = "own"
    xla: bool = False
    steps_per_execution: int = 1


@dataclasses.dataclass(frozen=True)
class Optimization:
    """How the weights move.

    Attributes:
        optimizer: A name from `etude.optim` (`"sgd"`, `"nesterov"`, `"adam"`, `"adamw"`,
            `"nadam"`, `"lion"`, `"rmsprop"`, `"lamb"`, `"lars"`), or `"compiled"` for the
            instance that the model was compiled with.
        learning_rate: The peak of the schedule; `None` leaves the optimizer's own.
        momentum: Momentum (β₁ for those of Adam's kind); `None` leaves the optimizer's own.
        weight_decay: Decoupled weight decay per step, times the learning rate; with
            `"lamb"` and `"lars"` times their ratio as well, and of kernels only. `None`
            leaves the optimizer's own.
        schedule: A name from `etude.optim.schedules`.
        warmup_steps: Steps over which the rate rises, for schedules with a fixed warm-up.
        warmup_fraction: Share of all steps over which the rate rises, for `"one_cycle"`.
        cycle_momentum: Whether momentum moves against the rate, between the two below.
        momentum_low: Momentum where the rate is highest.
        momentum_high: Momentum where the rate is lowest.
        batch_norm_momentum: Share that batch normalization keeps of its statistics in a step;
            `None` leaves each layer its own.
        epochs: Passes over the training data, for a run that is not told its length otherwise;
            `None` leaves it to the call.
    """

    optimizer: str = "adam"
    learning_rate: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: str = "constant"
    warmup_steps: int = 0
    warmup_fraction: float = 0.25
    cycle_momentum: bool = False
    momentum_low: float = 0.85
    momentum_high: float = 0.95
    batch_norm_momentum: float | None = None
    epochs: float | None = None


@dataclasses.dataclass(frozen=True)
class Regularization:
    """What keeps the model from fitting the training set alone.

    Attributes:
        label_smoothing: Share of a label's mass spread evenly over the classes.
        dropout: Times the rate of each of the model's `Dropout` layers, which stays below 1.
        decay: `"constant"`, the optimizer's `weight_decay`; or `"balanced"`, in its place the
            decay of each kernel that takes away what its own updates add to its norm.
        clip_norm: Greatest global norm of a gradient; `None` clips nothing.
        ema_decay: Decay per step of the average of the weights; `None` keeps none.
        early_stopping: `"none"`, or one of Prechelt's criteria: `"gl"` (generalization
            loss), `"pq"` (quotient of generalization loss and progress), `"up"`
            (successive increases).
        early_stopping_threshold: α of `"gl"` (percent) and `"pq"`, s of `"up"`.
        best_weights: Whether the weights of the best evaluation are returned.
    """

    label_smoothing: float = 0.0
    dropout: float = 1.0
    decay: str = "constant"
    clip_norm: float | None = None
    ema_decay: float | None = None
    early_stopping: str = "none"
    early_stopping_threshold: float = 5.0
    best_weights: bool = True


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Which samples count, and how much.

    Attributes:
        class_weight: `"none"`, or `"balanced"` to weight each class by the inverse of its
            frequency (mean weight 1).
        strategy: Of importance sampling: a name from `etude.sampling`, or `"uniform"` for none.
            What follows is its own where it is left out.
        presample: k: a batch is drawn from one that is so many times as large.
        threshold: τ above which a gated strategy is at work; left out, that above which it saves
            time by `forward`.
        exponent: What of, the strategy says.
        smoothing: Share of the chances that is spread evenly, in [0, 1].
        warm_up: Share of the run, at its start, that is uniform.
        cool_down: Share of the run, at its end, that is uniform.
        resolution: Of the images that are scored, as a share of their sides, where the strategy
            takes losses at a lower one.
        forward: What scoring a batch takes, as a share of a step; left out, a third.
        fixed: What a step takes however many samples it is on, as a share of one on a batch, for
            strategies that draw as many as pay.
        noise: The gradient noise scale over the batch: where that is small, less variance is worth
            less, and the gate opens later; left out, it is taken for infinite.
        rate: Times the learning rate in steps in which samples are chosen: gradients of less
            variance bear longer ones.
        draws: Of strategies that weigh what they draw: `"systematic"`, at even distances along the
            chances, so that nobody is drawn twice who need not be, or `"independent"`, as in the
            papers. `"own"` is the former, and of the others their own.
    """

    class_weight: str = "none"
    strategy: str = "uniform"
    presample: float | None = None
    threshold: float | None = None
    exponent: float | None = None
    smoothing: float | None = None
    warm_up: float | None = None
    cool_down: float | None = None
    resolution: float = 1.0
    forward: float | None = None
    fixed: float = 0.0
    noise: float | None = None
    rate: float = 1.0
    draws: str = "own"


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images are changed, each by a draw of its own.

    Attributes:
        policy: What may be drawn; taken as a `Policy` of `etude.augment`, as the name of a known
            one (`"randaugment"`, `"standard_cifar"`, …), or as plain lists and numbers.
    """

    policy: Policy = dataclasses.field(default_factory=Policy)


@dataclasses.dataclass(frozen=True)
class Semisupervised:
    """What images without labels are for.

    Attributes:
        batch_norm: Whether batch normalization goes by them too: `"labelled"` samples alone;
            `"joint"`, one pass over both, whose gradient goes through the statistics;
            `"two_step"`, statistics of both from a pass of their own, constants for the gradient;
            or `"straight_through"`, the same with the gradient of the labelled samples' own.
        unlabeled: How many of them come with a batch, over its size.
        method: What `fit` does with them before and after a training: nothing (`"none"`),
            pre-training of the backbone (`"pretrained"`), a student that learns from what the
            model says of them (`"noisy_student"`), or one after the other
            (`"pretrained_noisy_student"`). A Trainer by itself does nothing of it.
    """

    batch_norm: str = "labelled"
    unlabeled: float = 1.0
    method: str = "none"


@dataclasses.dataclass(frozen=True)
class Mark:
    """Where a value came from: `"given"` by the user, `"learned"` by a meta-learner, or
    `"default"`."""

    origin: str = "default"
    by: str | None = None

    def __str__(self) -> str:
        return self.origin if self.by is None else f"{self.origin} by {self.by}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` of a mark gave."""
        origin, _, by = text.partition(" by ")
        return cls(origin, by or None)


GIVEN = Mark("given")
DEFAULT = Mark()

_BOUNDS: Mapping[str, tuple[float, float]] = types.MappingProxyType(
    {
        "compute.batch_size": (1, 2**31),
        "compute.accumulate": (1, 2**20),
        "compute.steps_per_execution": (1, 2**20),
        "optimization.learning_rate": (0.0, 1e6),
        "optimization.momentum": (0.0, 1.0),
        "optimization.weight_decay": (0.0, 1e3),
        "optimization.warmup_steps": (0, 2**62),
        "optimization.warmup_fraction": (0.0, 1.0),
        "optimization.momentum_low": (0.0, 1.0),
        "optimization.momentum_high": (0.0, 1.0),
        "optimization.batch_norm_momentum": (0.0, 1.0),
        "optimization.epochs": (1e-9, 1e9),
        "regularization.label_smoothing": (0.0, 0.999),
        "regularization.dropout": (0.0, 1e3),
        "regularization.clip_norm": (1e-12, 1e12),
        "regularization.ema_decay": (0.0, 1.0),
        "regularization.early_stopping_threshold": (0.0, 1e6),
        "sampling.presample": (1.0, 1e3),
        "sampling.threshold": (-1.0, 1e6),
        "sampling.exponent": (-100.0, 100.0),
        "sampling.smoothing": (0.0, 1.0),
        "sampling.warm_up": (0.0, 1.0),
        "sampling.cool_down": (0.0, 1.0),
        "sampling.resolution": (0.05, 1.0),
        "sampling.forward": (1e-6, 1e3),
        "sampling.fixed": (0.0, 0.99),
        "sampling.noise": (1e-6, 1e12),
        "sampling.rate": (1e-3, 1e3),
        "semisupervised.unlabeled": (1e-3, 1e3),
    }
)

_CHOICES: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
    {
        "compute.precision": ("own", "mixed_bfloat16", "mixed_float16"),
        "regularization.decay": ("constant", "balanced"),
        "regularization.early_stopping": ("none", "gl", "pq", "up"),
        "sampling.class_weight": ("none", "balanced"),
        "sampling.draws": ("own", "systematic", "independent"),
        "semisupervised.batch_norm": ("labelled", "joint", "two_step", "straight_through"),
        "semisupervised.method": (
            "none",
            "pretrained",
            "noisy_student",
            "pretrained_noisy_student",
        ),
    }
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every decision of a run. The default is a sound plain Keras run.

    A recipe is changed only by making a new one: `give` for what the user fixes, `learn`
    for what a meta-learner found. `learn` never changes a given value.

    Example:
        >>> recipe = Recipe().give(optimization={"learning_rate": 0.1})
        >>> recipe = recipe.learn("learning_rate", optimization={"learning_rate": 0.3})
        >>> recipe.optimization.learning_rate, str(recipe.mark("optimization.learning_rate"))
        (0.1, 'given')
    """

    compute: Compute = Compute()
    optimization: Optimization = Optimization()
    regularization: Regularization = Regularization()
    sampling: Sampling = Sampling()
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    semisupervised: Semisupervised = Semisupervised()
    marks: tuple[tuple[str, Mark], ...] = ()

    def __post_init__(self) -> None:
        for path, value in self.values().items():
            _check(path, value)

    # -- reading ---------------------------------------------------------------------

    @staticmethod
    def groups() -> dict[str, type]:
        """The groups' names and classes, in order."""
        return dict(_GROUPS)

    def values(self) -> dict[str, Any]:
        """Every value by its dotted path, `"optimization.learning_rate"`."""
        return {
            f"{group}.{field.name}": getattr(getattr(self, group), field.name)
            for group, cls in _GROUPS.items()
            for field in dataclasses.fields(cls)
        }

    def mark(self, path: str) -> Mark:
        """Where the value at `path` came from."""
        return dict(self.marks).get(path, DEFAULT)

    def is_given(self, path: str) -> bool:
        """Whether the user fixed the value at `path`."""
        return self.mark(path).origin == "given"

    # -- changing --------------------------------------------------------------------

    def give(self, **groups: Mapping[str, Any]) -> Recipe:
        """A recipe with these values fixed by the user, `optimization={"momentum": 0.9}`."""
        return self._with(GIVEN, groups, over_given=True)

    def learn(self, by: str, **groups: Mapping[str, Any]) -> Recipe:
        """A recipe with these values learned by the meta-learner `by`; given ones stay."""
        return self._with(Mark("learned", by), groups, over_given=False)

    def keep(self, names: Iterable[str]) -> Recipe:
        """A recipe in which the named groups or values count as given.

        Args:
            names: Groups (`"optimization"`), paths (`"optimization.learning_rate"`) or the
                last part of a path (`"optimizer"`).

        Raises:
            RecipeError: A name is not of this recipe.
        """
        marks = dict(self.marks)
        paths = list(self.values())
        for name in [names] if isinstance(names, str) else names:
            hits = [p for p in paths if name in (p, p.split(".")[0], p.split(".")[1])]
            if not hits:
                raise RecipeError(
                    f"`keep` names {name!r}, which is not part of a recipe.",
                    required=f"groups {sorted(_GROUPS)} or values such as 'learning_rate'",
                    received=repr(name),
                    advice="see `etude.Recipe().values()` for all names",
                )
            marks.update(dict.fromkeys(hits, GIVEN))
        return dataclasses.replace(self, marks=_sorted_marks(marks))

    def _with(
        self, mark: Mark, groups: Mapping[str, Mapping[str, Any]], *, over_given: bool
    ) -> Recipe:
        marks = dict(self.marks)
        changed: dict[str, Any] = {}
        for group, values in groups.items():
            _known_group(group)
            kept = {}
            for name, value in _mapping(group, values).items():
                path = f"{group}.{name}"
                _known_path(path)
                if self.is_given(path) and not over_given:
                    continue
                kept[name] = _convert(path, value)
                marks[path] = mark
            changed[group] = dataclasses.replace(getattr(self, group), **kept)
        return dataclasses.replace(self, **changed, marks=_sorted_marks(marks))

    # -- YAML ------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain names and numbers, as `to_yaml` writes them."""
        data: dict[str, Any] = {"etude_recipe": VERSION}
        for group in _GROUPS:
            values = vars(getattr(self, group))
            data[group] = {name: _plain(value) for name, value in values.items()}
        data["marks"] = {path: str(mark) for path, mark in self.marks}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe of `to_dict`. Values that are left out take their defaults; values
        without a mark count as given, since a person wrote them.

        Raises:
            RecipeError: An unknown version, group, value or mark.
        """
        if not isinstance(data, Mapping):
            raise RecipeError(
                "The recipe is not a mapping.",
                required="groups with values, as `Recipe.to_yaml` writes them",
                received=type(data).__name__,
                advice="start from `print(etude.Recipe().to_yaml())`",
            )
        version = data.get("etude_recipe", VERSION)
        if version != VERSION:
            raise RecipeError(
                "The recipe is of another version.",
                required=f"etude_recipe: {VERSION}",
                received=f"etude_recipe: {version}",
                advice="write it anew with this version of Étude",
            )
        marks: dict[str, Mark] = {}
        groups: dict[str, Any] = {}
        for group, values in data.items():
            if group in ("etude_recipe", "marks"):
                continue
            cls_ = _known_group(group)
            fields = {}
            for name, value in _mapping(group, values).items():
                path = f"{group}.{name}"
                _known_path(path)
                fields[name] = _convert(path, value)
                marks[path] = GIVEN
            groups[group] = cls_(**fields)
        if "marks" in data:
            stated = _mapping("marks", data["marks"])
            marks = {}
            for path, text in stated.items():
                _known_path(path)
                mark = Mark.parse(str(text))
                if mark.origin not in ("given", "learned", "default"):
                    raise RecipeError(
                        f"The mark of {path} is not known.",
                        required="'given', 'learned by <name>' or 'default'",
                        received=repr(text),
                        advice="mend or drop that line",
                    )
                marks[path] = mark
        return cls(**groups, marks=_sorted_marks(marks))

    def to_yaml(self) -> str:
        """The recipe as YAML; `from_yaml` gives back an equal recipe, floats to the bit."""
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Reads what `to_yaml` wrote, or a hand-written part of it.

        Raises:
            RecipeError: The text is not YAML, or not a recipe.
        """
        return cls.from_dict(read_yaml(text, "recipe"))

    def save(self, path: str | Path) -> None:
        """Writes the recipe to a YAML file."""
        Path(path).write_text(self.to_yaml(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Reads a recipe from a YAML file.

        Raises:
            RecipeError: It cannot be read, or what it holds is no recipe.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                "The recipe cannot be read.",
                required="a YAML file, as `Recipe.save` writes it",
                received=f"{path}: {error}",
                advice="check the path",
            ) from error
        return cls.from_yaml(text)


_GROUPS: Mapping[str, type] = types.MappingProxyType(
    {
        "compute": Compute,
        "optimization": Optimization,
        "regularization": Regularization,
        "sampling": Sampling,
        "augmentation": Augmentation,
        "semisupervised": Semisupervised,
    }
)

_TYPES: Mapping[str, Any] = types.MappingProxyType(
    {
        f"{group}.{name}": hint
        for group, cls in _GROUPS.items()
        for name, hint in typing.get_type_hints(cls).items()
    }
)


def _sorted_marks(marks: Mapping[str, Mark]) -> tuple[tuple[str, Mark], ...]:
    return tuple((p, marks[p]) for p in _TYPES if p in marks and marks[p] != DEFAULT)


def _known_group(group: str) -> type:
    if group not in _GROUPS:
        raise RecipeError(
            f"A recipe has no group {group!r}.",
            required=f"one of {sorted(_GROUPS)}",
            received=repr(group),
            advice="mend the name",
        )
    return _GROUPS[group]


def _known_path(path: str) -> None:
    if path not in _TYPES:
        group = path.partition(".")[0]
        names = [p.split(".")[1] for p in _TYPES if p.startswith(group + ".")]
        raise RecipeError(
            f"A recipe has no value {path!r}.",
            required=f"one of {names} in {group!r}" if names else f"a group of {sorted(_GROUPS)}",
            received=repr(path),
            advice="mend the name",
        )


def _convert(path: str, value: Any) -> Any:
    """`value` as the type of `path`: YAML reads `1e-3` as text and `1` as an integer."""
    hint = _TYPES[path]
    if hint is Policy:
        return Policy.of(value)
    options = typing.get_args(hint) or (hint,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    wrong = RecipeError(
        f"The recipe's {path} has the wrong type.",
        required=kind.__name__ + (" or null" if type(None) in options else ""),
        received=repr(value),
        advice="mend the value",
    )
    if kind is bool or isinstance(value, bool):
        if kind is bool and isinstance(value, bool):
            return value
        raise wrong
    if kind is str:
        if isinstance(value, str):
            return value
        raise wrong
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong from error
    if kind is int:
        if not number.is_integer():  # NaN and infinity are none either
            raise wrong
        return int(value) if isinstance(value, int) else int(number)
    return number


def _plain(value: Any) -> Any:
    """A value as names and numbers: a policy as its name where it is a known one."""
    if not isinstance(value, Policy):
        return value
    return str(value) if str(value) in POLICIES else value.to_dict()


def _mapping(name: str, values: Any) -> Mapping[str, Any]:
    """The values of a group; nothing at all counts as none."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise RecipeError(
            f"The recipe's {name} are no names with values.",
            required=f"{name}: followed by lines such as `name: value`",
            received=repr(values),
            advice="see `print(etude.Recipe().to_yaml())`",
        )
    return values


def _check(path: str, value: Any) -> None:
    if value is None:
        return
    if path in _BOUNDS:
        low, high = _BOUNDS[path]
        if not low <= value <= high:  # also false for NaN
            raise RecipeError(
                f"The recipe's {path} is out of range.",
                required=f"between {low} and {high}",
                received=repr(value),
                advice="mend the value",
            )
    if path in _CHOICES and value not in _CHOICES[path]:
        raise RecipeError(
            f"The recipe's {path} is not known.",
            required=f"one of {list(_CHOICES[path])}",
            received=repr(value),
            advice="mend the value",
        )
