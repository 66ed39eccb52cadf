"""What went wrong, said to the user: a message that names the place, shows the value, says what to write.

Errors about values that somebody gave are also `ValueError`, as scikit-learn has it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RegmixError(Exception):
    """Base of every error a user can cause or mend. The command line prints it and exits with code 2.

    Args:
        message: What was wrong and where, with the offending value.
        hint: What to write or run instead, or `None` when the message already says so.
    """

    #: Of a command that ends with it: 2 where nothing can be done before the user has mended something.
    exit_code = 2

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class RecipeError(RegmixError, ValueError):
    """The recipe, or an override of one of its keys, cannot be used."""


class DataError(RegmixError, ValueError):
    """A source of text, or a table that came from outside, cannot be read as declared."""


class MixtureError(RegmixError, ValueError):
    """Weights that are no mixture, or constraints that no mixture meets."""


class RegressionError(RegmixError, ValueError):
    """The runs at hand do not allow the asked regression."""


class TrainingError(RegmixError):
    """A model cannot be built or trained as asked."""


class UnfinishedError(TrainingError):
    """Work was done, and too much of it did not end well to go on."""

    exit_code = 1


class StudyError(RegmixError):
    """The study's folder is not what the recipe says it should be."""


class HubError(RegmixError):
    """Something on the Hub cannot be read, written or trusted."""


class UnreachableError(HubError):
    """The Hub does not answer as it should for now; what was done stays done."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the known word closest to `word`, or list what is known when nothing is close.

    >>> did_you_mean("contxt_length", ["context_length", "seed"])
    "did you mean 'context_length'?"
    >>> did_you_mean("xyz", ["b", "a"])
    "known are 'a', 'b'."
    """
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known are " + ", ".join(repr(option) for option in options) + "." if options else "none is known."
