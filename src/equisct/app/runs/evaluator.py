"""Evaluation while training: figures of samples, always from the same noise, by each of the method's samplers."""

import itertools
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import Mesh

from ..._base.defaults import AVERAGE
from ...data import Dataset
from ...evaluation import Reference, load_reference, measure
from ...evaluation.features import check_shape
from ...train.placement import place
from ..parts.conditions import conditions_of_data
from ..parts.features import draw_features, name_of, network_of, reference_of
from ..settings.config import Config
from ..settings.method import System
from .folder import write_json


class Evaluator:
    """Measures the samples of a run. The data's features are taken when they are first needed.

    Args:
        config: of the run.
        system: of its method, for the samplers.
        dataset: what it trains on.
        mesh: where the weights lie; all processes evaluate together.

    Raises:
        ValueError: for settings that do not fit each other or the data; names them.
    """

    def __init__(self, config: Config, system: System, dataset: Dataset, mesh: Mesh):
        asked = self._asked = config.eval
        self._samplers, self._shape, self._mesh = system.samplers, dataset.shape, mesh
        try:
            network = network_of(asked, name_of(dataset), dataset.shape)
            if "inception-score" in asked.metrics and network.logits is None:
                raise ValueError("metrics: expected a network with classes for the Inception score, found one without")
            self._reference = load_reference(asked.ref) if asked.ref is not None else None
            if self._reference is not None:
                self._reference.check_of(network)
                self._reference.check_width(check_shape(network, self._shape))
        except ValueError as error:
            raise ValueError(f"eval.{error}") from error
        self._network, self._dataset, self._told = network, dataset, conditions_of_data(dataset)
        self._placed = place(network, mesh)  # for samples; of the data each process takes features by itself

    @property
    def pipeline(self) -> dict[str, Any]:
        """What two evaluations must share to be compared, as in the records of `equisct-eval`."""
        return {
            "network": self._network.name,
            "weights": self._network.weights,
            "reference": self._against().hash,
            "samples": self._asked.n,
            "quantised": self._asked.quantise,
        }

    def __call__(
        self, models: Mapping[str, Any], step: int, *, key: Any, between: Callable[[], None]
    ) -> tuple[dict[str, float], float]:
        """The figures, and the samples per second from noise to features.

        They are called `SAMPLER/NAME` of the average that samples are drawn with, `WEIGHTS/SAMPLER/NAME` of others.

        Args:
            models: the weights to measure, on the mesh, by their names in `eval.of`.
            step: updates done.
            key: of the noise.
            between: called now and then; may raise to give up.

        Raises:
            ValueError: if samples are not finite, or a metric refuses them.
        """
        figures, seconds, drawn, asked = {}, 0.0, 0, self._asked
        for (weights, model), sampler in itertools.product(models.items(), self._samplers(step)):
            begin = time.monotonic()
            found = draw_features(
                sampler, model, self._shape, asked.n, self._placed, asked.quantise,
                key=key, mesh=self._mesh, conditions=self._told, between=between,
            )  # fmt: skip
            seconds, drawn = seconds + time.monotonic() - begin, drawn + asked.n
            measured = measure(found, self._against(), asked.metrics)
            of = "" if weights == AVERAGE else f"{weights}/"
            figures |= {f"{of}{sampler.name}/{name}": value for name, value in measured.items()}
        return figures, drawn / seconds

    def _against(self) -> Reference:
        if self._reference is None:
            self._reference = reference_of(self._dataset, self._network)
        return self._reference


def note_pipeline(folder: pathlib.Path, pipeline: dict[str, Any], *, warn: Callable[[str], None]) -> None:
    """Writes `evaluation.json`: how the rows of `evaluations.jsonl` are taken; warns where earlier ones were not so."""
    before = read_pipeline(folder)
    if before is not None and before != pipeline:
        parts = ", ".join(name for name in pipeline if before.get(name) != pipeline[name])
        warn(f"evaluation: from now on {parts} differ: figures from before are no longer comparable")
    if before != pipeline:
        write_json(folder / "evaluation.json", {"pipeline": pipeline})


def read_pipeline(folder: pathlib.Path) -> dict[str, Any] | None:
    """How a run's evaluations were taken; None where it has none, or the file is none of ours."""
    try:
        found = json.loads((folder / "evaluation.json").read_text())["pipeline"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None
