"""What a benchmark writes into a page of the documentation, between two marks."""

import pathlib

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def write_between_marks(page: str, name: str, text: str) -> None:
    """Puts `text` between the marks `<!-- name: begin -->` and `<!-- name: end -->` of `docs/page`.

    Raises:
        ValueError: if the page has no such marks.
    """
    path = DOCS / page
    whole, marks = path.read_text(), [f"<!-- {name}: {end} -->" for end in ("begin", "end")]
    if not all(mark in whole for mark in marks):
        raise ValueError(f"{path}: expected the lines {marks[0]} and {marks[1]}, found none")
    begin, end = whole.index(marks[0]) + len(marks[0]), whole.index(marks[1])
    path.write_text(f"{whole[:begin]}\n{text}\n{whole[end:]}")
