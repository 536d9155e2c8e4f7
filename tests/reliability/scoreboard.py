"""Prints the scoreboard and writes it into `docs/reliability.md`: `make scoreboard` runs the rows, then this.

python tests/reliability/scoreboard.py RESULTS.jsonl
"""

import json
import pathlib
import sys

ROWS = {
    "R1": "repeat: fresh processes, equal bits",
    "R2": "resume: stopped and gone on with, equal bits",
    "R3": "SIGKILL at random moments, also while saving",
    "R4": "SIGTERM and SIGINT whatever is going on",
    "R5": "damage to any file of a checkpoint",
    "R6": "a full disk",
    "R7": "retention: always one whole checkpoint",
    "R8": "updates that are not finite",
    "R9": "other numbers of devices",
    "R10": "two processes against one",
    "R11": "data workers: 0, 1, 2",
    "R12": "bad image files",
    "R13": "bad arrays",
    "R14": "bad settings",
    "R15": "settings to a file and back",
    "R16": "hostile files",
    "R17": "CIFAR-10's two versions",
    "R18": "hostile archives",
    "R19": "secrets",
    "R20": "no network",
    "R21": "two runs in one folder",
    "R22": "a tracker that fails",
    "R23": "a long run: memory, compilations",
    "R24": "files of older versions",
    "R25": "a damaged compile cache",
    "R26": "oldest and newest versions",
}
CRASHES = [f"R{k}" for k in range(3, 10)]
BEGIN, END = "<!-- scoreboard: begin -->", "<!-- scoreboard: end -->"
PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "reliability.md"


def table(entries: list[dict]) -> str:
    """The table in Markdown, and the sum above it."""
    lines, whole = [], []
    for row, title in ROWS.items():
        found = [entry for entry in entries if entry["row"] == row]
        passed, of = sum(entry["passed"] for entry in found), sum(entry["of"] for entry in found)
        if of and passed == of:
            whole.append(row)
        tried = "; ".join(dict.fromkeys(entry["tried"] for entry in found)) or "-"
        notes = "; ".join(dict.fromkeys(entry["note"] for entry in found if entry["note"]))
        size = "-" if not of else "full" if all(entry["full"] for entry in found) else "small"
        result = f"{passed}/{of}" if of else "not run"
        note = notes or ("" if found else "no test recorded a result")
        cells = [row, title, size, tried, result, note]
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    crashes = sum(row in whole for row in CRASHES)
    total = f"{len(whole)} of {len(ROWS)} rows pass; of the crashes (R3 to R9) {crashes} of {len(CRASHES)}."
    return "\n".join([total, "", "| row | what | size | tried | passed | note |", "|---|---|---|---|---|---|", *lines])


def main() -> None:
    """Prints the table and puts it on the page."""
    path = pathlib.Path(sys.argv[1])
    text = table([json.loads(line) for line in path.read_text().splitlines()] if path.exists() else [])
    print(text)
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
