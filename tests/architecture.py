"""The floors of the package and the arrows between its parts: `python -m tests.architecture` prints them."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "regmix_hf"

#: From the ground up. A part may import those of lower floors only: not its neighbours, not what lies above.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "progress", "readable", "reference", "seeds", "tables", "version"),
    ("files", "quantities"),
    ("recipe", "hub"),
    ("mixtures", "exports"),
    ("study",),
    ("runs", "corpus"),
    ("regression", "training"),
    ("choice", "evaluation", "cards"),
    ("jobs",),
    ("stages", "sharing"),
    ("preflight", "placement"),
    ("pipeline",),
    ("plan",),
    ("draft",),
    ("cli",),
    ("proxies", "train"),
)
#: The package's front door re-exports lazily, stands above everything, and is imported by nothing inside.
FRONT = {"__init__", "__main__"}
FLOOR_OF = {part: number for number, parts in enumerate(FLOORS) for part in parts}
#: The first floor that may import torch and what is built on it.
FIRST_HEAVY_FLOOR = FLOOR_OF["corpus"]


def part_of(file: Path) -> str:
    """Name the part that a file of the package belongs to: the first dotted name below the package."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> list[tuple[int, str]]:
    """List what a file imports, with the lines: `(12, "regmix_hf.study.folder.Study")`."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def files() -> list[Path]:
    """All files of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def arrows() -> Counter[tuple[str, str]]:
    """Count the imports from one part of the package to another."""
    counts: Counter[tuple[str, str]] = Counter()
    for file in files():
        for _, name in imports_of(file):
            top, _, rest = name.partition(".")
            below = rest.split(".")[0]
            if top == "regmix_hf" and below and below != part_of(file):
                counts[part_of(file), below] += 1
    return counts


def files_imported() -> dict[Path, set[Path]]:
    """List of every file those that it takes names from, wherever in it they are imported; no `__init__`."""
    graph = {}
    for file in files():
        named = {PACKAGE.parent / name.replace(".", "/") for _, name in imports_of(file)}
        homes = {path.with_suffix(".py") for path in named} | {
            path.parent.with_suffix(".py") for path in named
        }
        graph[file] = {home for home in homes if home.is_file()} - {file}
    return graph


def main() -> None:
    """Print every floor from the top down, with the lines of its parts and the parts they import."""
    lines: Counter[str] = Counter()
    for file in files():
        lines[part_of(file)] += len(file.read_text().splitlines())
    found, upward = arrows(), 0
    for number, parts in reversed(list(enumerate(FLOORS))):
        for part in parts:
            below = sorted((b for a, b in found if a == part), key=lambda b: (-FLOOR_OF.get(b, 99), b))
            upward += sum(FLOOR_OF.get(b, 99) >= number for b in below)
            print(f"{number:>2}  {part:<12}{lines[part]:>6}  -> {' '.join(below)}".rstrip(" ->"))
    print(f"{sum(found.values())} imports between parts, {upward} arrows that do not go down")


if __name__ == "__main__":
    main()
