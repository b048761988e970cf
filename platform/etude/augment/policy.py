"""What may be drawn, how many per image, and how likely: augmentation as data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import yaml

from etude.augment.names import index_of
from etude.augment.names import possible as able
from etude.errors import RecipeError

MOST_SLOTS, MOST_CHOICES = 12, 64
"""Slots of a policy, and choices of a slot, at most: the sizes of the tensors that a compiled
step holds, so that any policy fits into them."""

FILLS = ("reflect", "edge", "black", "grey")


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of the things that a slot may do.

    Attributes:
        transform: The name of one, or `"identity"`.
        low: Lowest magnitude, 0 (identity) to 100.
        high: Highest; the magnitude is drawn evenly between both.
        weight: Its chance among the slot's choices, relative to theirs.
    """

    transform: str
    low: float
    high: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.transform != IDENTITY:
            index_of(self.transform)
        sound = 0.0 <= self.low <= self.high <= 100.0 and 0.0 < self.weight < math.inf
        if not sound:
            raise RecipeError(
                f"The choice of {self.transform} is not usable.",
                required="0 <= low <= high <= 100 and a weight above 0",
                received=f"low={self.low!r}, high={self.high!r}, weight={self.weight!r}",
                advice="mend the policy",
            )


IDENTITY = "identity"


@dataclasses.dataclass(frozen=True)
class Slot:
    """A draw of one choice for each image.

    Attributes:
        choices: What may be drawn.
        probability: Share of the images for which anything is drawn.
        draws: How often the slot draws for the same image.
        name: What the slot is called in reports, such as its distance group.
    """

    choices: tuple[Choice, ...]
    probability: float = 1.0
    draws: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        sound = (
            1 <= len(self.choices) <= MOST_CHOICES
            and 0.0 <= self.probability <= 1.0
            and 1 <= self.draws <= MOST_SLOTS
        )
        if not sound:
            raise RecipeError(
                f"The slot {self.name!r} is not usable.",
                required=f"1 to {MOST_CHOICES} choices, a probability in [0, 1], and 1 to "
                f"{MOST_SLOTS} draws",
                received=f"{len(self.choices)} choices, probability={self.probability!r}, "
                f"draws={self.draws!r}",
                advice="mend the policy",
            )


@dataclasses.dataclass(frozen=True)
class Mixing:
    """How images are mixed with a partner from their batch.

    Attributes:
        mixup: Share of the images that are blended with their partner (Zhang et al. 2017).
        cutmix: Share of the images into which a part of their partner is pasted (Yun et al.
            2019). Both shares together are at most 1.
        alpha: λ is drawn from Beta(α, α); 1 is even.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        shares = min(self.mixup, self.cutmix) >= 0.0 and self.mixup + self.cutmix <= 1.0
        if not (shares and 1e-3 <= self.alpha <= 1e3):
            raise RecipeError(
                "The mixing is not usable.",
                required="mixup and cutmix of 0 or more, at most 1 together, and alpha from "
                ".001 to 1000",
                received=repr(self),
                advice="mend the policy",
            )


@dataclasses.dataclass(frozen=True)
class Policy:
    """A whole augmentation policy. The empty one leaves images as they are.

    The transforms that are drawn for an image are applied in the order of `names.py`: geometry as
    one resampling, linear colour as one matrix, tone, filters, erasing. A transform that is drawn
    twice has the sum of both magnitudes, at most 100.

    Attributes:
        slots: What is drawn.
        fill: What lies beyond an image's edges: `"reflect"`, `"edge"` (the edge's pixels go on),
            `"black"` (the lowest value) or `"grey"` (the middle of the value range).
        alternating_flip: Whether each image is mirrored in every other epoch (Jordan 2024, "94%
            on CIFAR-10 in 3.29 seconds", section 3.6), where samples have ids. Elsewhere it is
            mirrored half the time.
        mixing: Mixing with partners.

    Example:
        >>> policy = Policy((Slot((Choice("rotation", 0.0, 20.0),), probability=0.5),))
        >>> Policy.from_yaml(policy.to_yaml()) == policy
        True
    """

    slots: tuple[Slot, ...] = ()
    fill: str = "reflect"
    alternating_flip: bool = False
    mixing: Mixing = Mixing()

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise RecipeError(
                "The policy's fill is not known.",
                required=" or ".join(FILLS),
                received=repr(self.fill),
                advice="take one of these",
            )
        if self.draws() > MOST_SLOTS:
            raise RecipeError(
                "The policy draws too often.",
                required=f"at most {MOST_SLOTS} draws per image over all slots",
                received=str(self.draws()),
                advice="join slots, or draw less often",
            )

    def draws(self) -> int:
        """How many choices are drawn for an image, over all slots."""
        return sum(slot.draws for slot in self.slots)

    def for_channels(self, channels: int) -> Self:
        """The policy without what images of so many channels cannot do.

        A choice that is left out leaves its chance to the others of its slot; a slot without
        choices goes.
        """

        def possible(choice: Choice) -> bool:
            if choice.transform == IDENTITY:
                return True
            return able(choice.transform, channels)

        kept = [
            dataclasses.replace(slot, choices=tuple(c for c in slot.choices if possible(c)))
            for slot in self.slots
            if any(possible(c) for c in slot.choices)
        ]
        return dataclasses.replace(self, slots=tuple(kept))

    @property
    def draws_anything(self) -> bool:
        """Whether the policy does anything at all."""
        return bool(self.slots) or self.alternating_flip or self.mixes

    @property
    def mixes(self) -> bool:
        """Whether any image is mixed with another."""
        return self.mixing.mixup + self.mixing.cutmix > 0.0

    @classmethod
    def of(cls, given: Self | str | Mapping[str, Any] | None) -> Self:
        """A policy, the known one of a name, or what `to_dict` gave; `None` is the empty one.

        Raises:
            RecipeError: There is no such policy.
        """
        if isinstance(given, cls):
            return given
        if given is None:
            return cls()
        if isinstance(given, Mapping):
            return cls.from_dict(given)
        if isinstance(given, str) and given in POLICIES:
            return POLICIES[given]()  # type: ignore[return-value]
        raise RecipeError(
            "There is no such policy.",
            required="a Policy or one of " + ", ".join(POLICIES),
            received=repr(given),
            advice="take one of these, or make one: `etude.augment.Policy(...)`",
        )

    def __str__(self) -> str:
        """The name of a known policy, or what is drawn from."""
        for name, make in POLICIES.items():
            if self == make():
                return name
        parts = [slot.name or slot.choices[0].transform for slot in self.slots]
        if self.alternating_flip:
            parts.append("alternating flip")
        parts += [name for name in ("mixup", "cutmix") if getattr(self.mixing, name)]
        return ", ".join(dict.fromkeys(parts)) or "nothing drawn"

    # -- YAML ------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, values at their defaults left out."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` gave.

        Raises:
            RecipeError: A name or a value is not one of a policy.
        """
        given = _known(cls, values)
        slots = []
        for entry in _listed(given.pop("slots", ()), "slots"):
            slot = _known(Slot, entry)
            choices = _listed(slot.pop("choices", ()), "choices")
            slots.append(Slot(tuple(_made(Choice, c) for c in choices), **slot))
        mixing = _made(Mixing, given.pop("mixing", {}))
        return cls(slots=tuple(slots), mixing=mixing, **given)

    def to_yaml(self) -> str:
        """The policy as YAML; numbers come back to the bit."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """What `to_yaml` gave.

        Raises:
            RecipeError: The text is no YAML, or not that of a policy.
        """
        return cls.from_dict(read_yaml(text, "policy"))


def read_yaml(text: str, name: str) -> Any:
    """What a policy or a recipe in YAML holds; an empty text holds no values.

    Raises:
        RecipeError: The text is no YAML.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(
            f"The {name} is not valid YAML.",
            required=f"YAML, as `{name.capitalize()}.to_yaml` writes it",
            received=str(error).replace("\n", " "),
            advice="mend that line",
        ) from error
    return {} if data is None else data


def _plain(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        entry = getattr(value, field.name)
        if entry == field.default:
            continue
        if isinstance(entry, tuple):
            entry = [_plain(one) for one in entry]
        elif dataclasses.is_dataclass(entry):
            entry = _plain(entry)
        found[field.name] = entry
    return found


def _known(cls: type, values: Any) -> dict[str, Any]:
    """Values by name, all of them fields of a class and of its types."""
    names = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(values, Mapping) or not set(values) <= set(names):
        raise RecipeError(
            f"The policy's {cls.__name__.lower()} is not usable.",
            required="some of " + ", ".join(names),
            received=repr(values),
            advice="compare it with what `Policy.to_yaml` writes",
        )
    for name, value in values.items():
        wanted = {"float": (int, float), "int": (int,), "str": (str,), "bool": (bool,)}
        types_ = wanted.get(str(next(f for f in dataclasses.fields(cls) if f.name == name).type))
        wrong = types_ and (
            not isinstance(value, types_) or (bool not in types_ and isinstance(value, bool))
        )
        if wrong:
            raise RecipeError(
                f"{cls.__name__}.{name} is of the wrong type.",
                required=" or ".join(t.__name__ for t in types_ or ()),
                received=repr(value),
                advice="mend the policy",
            )
    return dict(values)


def _made(cls: type, values: Any) -> Any:
    given = _known(cls, values)
    try:
        return cls(**given)
    except TypeError as error:
        raise RecipeError(
            f"The policy's {cls.__name__.lower()} is not whole.",
            required="its " + ", ".join(f.name for f in dataclasses.fields(cls)),
            received=repr(values),
            advice="compare it with what `Policy.to_yaml` writes",
        ) from error


def _listed(values: Any, name: str) -> Sequence[Any]:
    if isinstance(values, (list, tuple)):
        return values
    raise RecipeError(
        f"The policy's {name} are no list.",
        required="a list",
        received=repr(values),
        advice="compare it with what `Policy.to_yaml` writes",
    )


# -- known policies ------------------------------------------------------------------


def none() -> Policy:
    """Images as they are."""
    return Policy()


def standard_cifar() -> Policy:
    """Mirrored half the time, and moved by up to 4 of 32 pixels, black beyond the edges."""
    moves = [Slot((Choice(f"translation_{axis}", 0.0, 12.5),), name="crop") for axis in "xy"]
    return Policy((_mirror(), *moves), fill="black")


def standard_imagenet() -> Policy:
    """Random resized crops, and mirrored half the time (Szegedy et al. 2014; He et al. 2015)."""
    return Policy((_mirror(), Slot((Choice("random_resized_crop", 100.0, 100.0),), name="crop")))


def randaugment(draws: int = 2, magnitude: float = 9.0) -> Policy:
    """RandAugment (Cubuk et al. 2019): `draws` of 14 operations at one magnitude of 0 to 30.

    Ranges are torchvision's; those that go both ways do so with even chances.
    """
    share = magnitude / 30.0
    return Policy((Slot(_fourteen(share, share, wide=False), draws=draws, name="randaugment"),))


def trivialaugment() -> Policy:
    """TrivialAugment Wide (Müller & Hutter 2021): one of 14 operations, any magnitude."""
    return Policy((Slot(_fourteen(0.0, 1.0, wide=True), name="trivialaugment"),))


def uniformaugment() -> Policy:
    """UniformAugment (Lingchen et al. 2020): two operations, each half the time, any magnitude."""
    slot = Slot(_fourteen(0.0, 1.0, wide=False), probability=0.5, draws=2, name="uniformaugment")
    return Policy((slot,))


def contrastive() -> Policy:
    """Views of small images for self-supervision (Chen et al. 2020, appendix B.9, on CIFAR-10).

    Crops of .2 of the area and more, mirrored half the time, brightness, contrast and saturation by
    up to .4 and hues by up to .1 of a turn four times in five, grey one time in five; not blurred.
    """
    jitter = [
        Slot(
            tuple(Choice(f"{name}_{way}", 0.0, 100.0 * 0.4 / 0.99) for way in ("up", "down")),
            probability=0.8,
            name=name,
        )
        for name in ("brightness", "contrast", "saturation")
    ]
    jitter.append(Slot((Choice("hue", 0.0, 20.0),), probability=0.8, name="hue"))
    crop = 100.0 * (1.0 - 0.2) / (1.0 - 0.08)
    return Policy(
        (
            _mirror(),
            Slot((Choice("random_resized_crop", crop, crop),), name="crop"),
            *jitter,
            Slot((Choice("grayscale", 100.0, 100.0),), probability=0.2, name="grey"),
        )
    )


POLICIES = {
    f.__name__: f
    for f in (
        none, standard_cifar, standard_imagenet, randaugment, trivialaugment, uniformaugment,
        contrastive,
    )
}  # fmt: skip


def _mirror() -> Slot:
    return Slot((Choice("mirror_horizontal", 50.0, 50.0),), name="mirror")


def _fourteen(low: float, high: float, *, wide: bool) -> tuple[Choice, ...]:
    """RandAugment's operations between two shares of their ranges."""
    # The largest magnitudes: of rotation 30 or 135 degrees, of shear .3 or .99, of translation
    # 150 / 331 of the side or 32 of 224 pixels, of factors 1 ± .9 or 1 ± .99, of posterizing 4
    # or 6 bits.
    tops: Iterable[tuple[str, float, float, float]] = (
        ("rotation", 30.0 / 135.0, 1.0, 1.0),
        *((f"shear_{axis}", 0.3 / 0.99, 1.0, 1.0) for axis in "xy"),
        *((f"translation_{axis}", 150.0 / 331.0, 32.0 / 224.0, 1.0) for axis in "xy"),
        *(
            (f"{name}_{way}", 0.9 / 0.99, 1.0, 0.5)
            for name in ("brightness", "contrast", "saturation")
            for way in ("up", "down")
        ),
        ("sharpen", 0.9 / 0.99, 1.0, 0.5),
        ("gaussian_blur", 0.2, 0.2, 0.5),
        ("posterize", 4.0 / 6.0, 1.0, 1.0),
        ("solarize", 1.0, 1.0, 1.0),
    )
    ranged = [
        Choice(name, 100.0 * low * top, 100.0 * high * top, weight)
        for name, narrow, broad, weight in tops
        for top in [broad if wide else narrow]
    ]
    always = [Choice(name, 100.0, 100.0) for name in ("auto_contrast", "equalize")]
    return (Choice(IDENTITY, 0.0, 0.0), *ranged, *always)
