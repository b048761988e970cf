"""Findings: what a meta-learner learned, from what evidence, at what cost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etude.augment.policy import Policy
from etude.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a piece of work costs.

    Attributes:
        seconds: Active time.
        steps: Training steps.
    """

    seconds: float = 0.0
    steps: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.steps + other.steps)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one meta-learner learned.

    Attributes:
        learner: The meta-learner's name.
        reads: Recipe groups, or single values of them, that the finding depends on.
        writes: The recipe group that it changes.
        changes: The values it found, by name within the group `writes`, or by path.
        why: One sentence.
        evidence: Numbers, lists and tables, ready for JSON.
        predicted: The cost that was expected beforehand.
        true: The cost that it had.
        key: Hash of all that was read; a finding is stale when it no longer matches.
        gain: The share of the training time that it was expected to be worth beforehand.
    """

    learner: str
    reads: tuple[str, ...]
    writes: str
    changes: Mapping[str, Any]
    why: str
    evidence: Mapping[str, Any]
    predicted: Cost
    true: Cost
    key: str
    gain: float = 0.0

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe with this finding in it; given values stay."""
        groups: dict[str, dict[str, Any]] = {}
        for path, value in zip(
            paths(self.writes, self.changes), self.changes.values(), strict=True
        ):
            group, name = path.split(".")
            groups.setdefault(group, {})[name] = value
        return recipe.learn(self.learner, **groups)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        plain = {
            name: value.to_dict() if isinstance(value, Policy) else value
            for name, value in self.changes.items()
        }
        return dataclasses.asdict(dataclasses.replace(self, changes=plain))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """What `to_dict` gave."""
        fields = dict(data)
        fields["reads"] = tuple(fields["reads"])
        if "policy" in fields["changes"]:
            policy = Policy.of(fields["changes"]["policy"])
            fields["changes"] = {**fields["changes"], "policy": policy}
        fields["predicted"] = Cost(**fields["predicted"])
        fields["true"] = Cost(**fields["true"])
        return cls(**fields)


def paths(group: str, names: Iterable[str]) -> list[str]:
    """Paths in a recipe of names within a group, or of paths themselves."""
    return [name if "." in name else f"{group}.{name}" for name in names]


def finding_key(
    recipe: Recipe, reads: Sequence[str], writes: str, fingerprint: str, own: Sequence[str]
) -> str:
    """The key of a finding: what it read of the recipe, and the problem.

    Args:
        recipe: The recipe before the finding.
        reads: The groups read, or single values as `group.name`.
        writes: The group written.
        fingerprint: The problem's fingerprint.
        own: Names within `writes` that the finding itself sets. It does not depend on them,
            except where they are read by name. What the user gave counts always.
    """
    itself = set(paths(writes, own))

    def counts(path: str) -> bool:
        group = path.split(".")[0]
        return recipe.is_given(path) or path in reads or (group in reads and path not in itself)

    values = {path: value for path, value in recipe.values().items() if counts(path)}
    text = json.dumps([fingerprint, values], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
