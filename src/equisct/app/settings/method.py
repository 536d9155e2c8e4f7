"""What every method is: settings that a person can choose, and what builds the library's parts from them."""

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # these import JAX
    from ...curriculum import AbstractCurriculum
    from ...objectives.terms import Objective
    from ...samplers import AbstractSampler
    from .config import Config


@dataclasses.dataclass(frozen=True)
class System:
    """What a method trains, and how; models are those of `equisct.model`.

    Args:
        model: `key -> model`, with fresh weights.
        objective: `(teacher, dataset) -> objective`; the teacher is the model of the run in `method.teacher`, or None.
        samplers: `updates done -> samplers`, the method's own first, for the pictures and figures of a run.
        start: `(model, teacher) -> model` with which training begins; by default the fresh one.
        curriculum: the stages, for the statistics per stage; None where there are none.
        teacher_share: of `train.Recipe`: keep a teacher beside the model.
        restarts: updates at which the optimiser starts anew, ascending.
        last_samplers: more of them, for the last picture.
        gradient_ratios: of `train.Recipe`: parts of the loss whose gradient is made as long as others'.
    """

    model: "Callable[[Any], Any]"
    objective: "Callable[[Any, Any], Objective]"
    samplers: "Callable[[int], tuple[AbstractSampler, ...]]"
    start: Callable[[Any, Any], Any] = lambda model, teacher: model
    curriculum: "AbstractCurriculum | None" = None
    teacher_share: Callable[[Any], Any] | None = None
    restarts: tuple[int, ...] = ()
    last_samplers: "tuple[AbstractSampler, ...]" = ()
    gradient_ratios: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """A method on the command line: a frozen dataclass whose fields are its settings, and `build`.

    The docstring under a field is its help text. A field `teacher`, where a method has one, is the folder of the run
    whose averaged weights teach. Importing the module registers the class; its name is its word in config.json.

    Raises:
        TypeError: where a class that is no interface (`Abstract...`) has no `build` of its own: it would silently train
            as its parent does; and where one that is built is no `dataclasses.dataclass(frozen=True)`.
    """

    learns_pairs: ClassVar[bool] = False
    """Whether it learns from stored pairs of noise and sample."""
    guides: ClassVar[bool] = False
    """Whether it can train a network that is told a scale of guidance (torso.guidance)."""
    learns_steps: ClassVar[bool] = False
    """Whether `denoise` of what it trains is no posterior mean, but gives the steps of the method's own sampler."""

    def __init_subclass__(cls) -> None:
        if not cls.__name__.startswith("Abstract") and "build" not in vars(cls):
            raise TypeError(f"{cls.__name__}: expected a method build of its own, found none (docs/extend.md)")

    def __post_init__(self) -> None:
        if "__dataclass_fields__" not in vars(type(self)):
            name = type(self).__name__
            raise TypeError(f"{name}: expected a frozen dataclass, or its settings are no flags, found a bare class")

    @abc.abstractmethod
    def build(self, config: "Config", shape: tuple[int, ...]) -> System:
        """The parts, for samples of `shape`, `(c, h, w)` or `(d,)`.

        Raises:
            ValueError: for settings that do not fit each other or the shape; names them.
        """

    def check(self, config: "Config") -> None:
        """Raises `ValueError`, naming the flag, at the first setting that is out of its range."""
        del config

    @property
    def is_laid_out(self) -> bool:
        """Whether the stages depend on the length of the run, which may then not change when it goes on."""
        return False
