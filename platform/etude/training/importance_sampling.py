"""One line that trains any compiled model by importance sampling."""

from __future__ import annotations

from typing import Any

from etude.recipe import Recipe
from etude.training.trainer import Trainer


class ImportanceSampling:
    """A compiled model whose `fit` chooses the samples of each step.

    `fit` takes what `keras.Model.fit` takes. A strategy that draws from fresh samples by their
    gradients' bound or loss is at work only while that saves time; until then training is uniform,
    and costs no more.

    Args:
        model: Any compiled Keras model with one input and one output; this one is trained.
        strategy: A name from `etude.sampling.STRATEGIES`.
        seed: Of the order of samples and of the draws.
        **numbers: Of the recipe's `sampling` group: `presample`, `threshold`, `exponent`,
            `smoothing`, `warm_up`, `cool_down`, `forward`.

    Raises:
        RecipeError: There is no such strategy or number, or the model's samples cannot be weighed.

    Example:
        >>> import etude
        >>> model.compile("sgd", "sparse_categorical_crossentropy")  # doctest: +SKIP
        >>> history = etude.ImportanceSampling(model).fit(x, y, epochs=5)  # doctest: +SKIP
        >>> history.history["tau"]  # doctest: +SKIP
    """

    def __init__(
        self, model: Any, strategy: str = "upper_bound", *, seed: int = 0, **numbers: Any
    ) -> None:
        recipe = Recipe().give(sampling={"strategy": strategy, **numbers})
        self.trainer = Trainer(model, recipe, seed=seed)
        self.trainer.compile()
        self.model = model

    @property
    def threshold(self) -> float:
        """τ above which samples are chosen."""
        assert self.trainer.selector is not None
        return float(self.trainer.selector.threshold)

    def fit(self, x: Any = None, y: Any = None, **options: Any) -> Any:
        """Trains; takes and gives what `keras.Model.fit` does."""
        return self.trainer.fit(x, y, **options)
