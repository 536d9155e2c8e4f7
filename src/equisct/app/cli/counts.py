"""Counts on the command line: `1e3` is 1000, as a person writes it."""

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

COUNTS = ConstructorRegistry()


@COUNTS.primitive_rule
def _rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole(words[0]),
        is_instance=lambda value: type(value) is int,
        str_from_instance=lambda value: [str(value)],
    )


def whole(word: str) -> int:
    """The whole number that a word says, such as `1000` or `1e3`.

    Raises:
        ValueError: if it says none.
    """
    if "e" not in word.lower():
        return int(word)
    number = float(word)
    if not number.is_integer() or abs(number) >= 2**53:
        raise ValueError(f"count: expected a whole number, found {word}")
    return int(number)
