"""The type checker of the whole package: beartype, its findings told as argument, found, expected and next step.

Free of JAX. Whole numbers are welcome where a float is asked for.
"""

import functools
import inspect
from collections.abc import Callable

from beartype import BeartypeConf, beartype
from beartype.door import is_bearable
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import AnnotationError, TypeCheckError, jaxtyped

from .explain import advice, describe, show

_CONF = BeartypeConf(is_pep484_tower=True)


class WrongCall(TypeCheckError, AnnotationError):
    """An argument, or what a function returned, is of a wrong type or shape.

    jaxtyping lets an `AnnotationError` through as it is; of any other it makes a message with every argument in full.
    """


def checked(function: Callable[..., object]) -> Callable[..., object]:
    """The checked stand-in of a function, which jaxtyping makes of its signature and calls in its place."""
    checks = beartype(conf=_CONF)(function)

    @functools.wraps(function)
    def explained(*args: object, **kwargs: object) -> object:
        try:
            return checks(*args, **kwargs)
        except BeartypeCallHintViolation as error:
            found = _explain(function, args, kwargs) or str(error).split("\n")[0][:300]
        name = f"{function.__module__}.{function.__qualname__}"
        raise WrongCall(f"{found}\n(type-check of {name})")

    return explained


def _explain(function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> str | None:
    """The first argument that does not fit, else what is returned; None where each alone seems to fit."""
    signature = inspect.signature(function)
    given = signature.bind(*args, **kwargs).arguments
    hints = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    pairs = [(name, hints[name], value) for name, value in given.items()]
    pairs.append(("what it returns", signature.return_annotation, function(*args, **kwargs)))
    for place, (name, hint, value) in enumerate(pairs):
        if hint is inspect.Parameter.empty or is_bearable(value, hint, conf=_CONF):
            continue
        with jaxtyped("context"):
            alone = is_bearable(value, hint, conf=_CONF)
        others = [f"{other} {show(known)}" for other, _, known in pairs[:place] if getattr(known, "shape", None)]
        beside = f" beside {', '.join(others)}" if alone and others else ""
        step = "" if alone else advice(hint, value, name)
        return f"{name}: expected {describe(hint)}, found {show(value)}{beside}" + (step and f"; {step}")
    return None
