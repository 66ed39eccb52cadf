"""Pictures that are drawn once: each takes a quarter of a second, and most tests ask what is beside it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from regmix_hf.cards import mixture_plots, pictures
from regmix_hf.cards.style import png
from regmix_hf.files import atomic_path
from regmix_hf.sharing import push_fit, runs_part


@dataclass(frozen=True)
class Drawn:
    """A picture, and its file once somebody has looked at it; from then on it is not drawn any more."""

    file: Path
    figure: Figure | None


class DrawnOnce:
    """Draws every picture of the same numbers and words once.

    Args:
        folder: Where pictures are kept, for all workers.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Draw so for reports, cards and what is pulled."""
        for module in (pictures, runs_part, push_fit):
            patch.setattr(module, "png", self._png)
        for name in [name for name in vars(pictures) if name.startswith("draw_") and name != "draw_pictures"]:
            patch.setattr(pictures, name, self._by(getattr(pictures, name)))
        patch.setattr(mixture_plots, "draw_effects", self._by(mixture_plots.draw_effects))

    def _by(self, draw: Callable[..., Figure]) -> Callable[..., Drawn]:
        def drawn(*given: object) -> Drawn:
            key = hashlib.sha256(pickle.dumps((draw.__name__, given))).hexdigest()
            file = self._folder / f"{key}.png"
            return Drawn(file, None if file.exists() else draw(*given))

        return drawn

    def _png(self, picture: Drawn) -> bytes:
        if picture.figure is not None and not picture.file.exists():
            with atomic_path(picture.file) as temporary:
                temporary.write_bytes(png(picture.figure))
        return picture.file.read_bytes()
