"""Learned arrays on disk: safetensors, checked against the shapes they must have. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regmix_hf.errors import RegressionError
from regmix_hf.files import atomic_path


def within(*names: str) -> str:
    """What a part of a part is called in the names of files."""
    return "-".join(filter(None, names))


def array_file(folder: Path, part: str) -> Path:
    """Where the arrays of an estimator lie, or those of a part of it."""
    return folder / f"{within('estimator', part)}.safetensors"


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.float64] | None]) -> None:
    """Write arrays as safetensors, as doubles, atomically; those that are `None` are left out."""
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        known = {name: array for name, array in arrays.items() if array is not None}
        save_file({name: np.ascontiguousarray(array, np.float64) for name, array in known.items()}, temporary)


def read_arrays(
    path: Path,
    dimensions: Mapping[str, tuple[str, ...]],
    sizes: Mapping[str, int],
    *,
    may_be_nan: Collection[str] = (),
    may_lack: Collection[str] = (),
) -> dict[str, NDArray[np.float64]]:
    """Read the arrays that `write_arrays` wrote.

    Args:
        path: The file.
        dimensions: Every array that must be there, and the names of its dimensions.
        sizes: Lengths of dimensions that are known; any other name must have one length throughout.
        may_be_nan: Arrays in which NaN stands for a missing number. Infinities never pass.
        may_lack: Arrays that need not be there.

    Raises:
        RegressionError: The file is missing or damaged, arrays are missing or too many, or one of them
            has the wrong kind, shape or numbers that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RegressionError(f"{path} is missing.")
    try:
        with safe_open(path, framework="numpy") as file:
            # From the header alone: what does not fit is not read.
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            there = {
                name: part for name, part in dimensions.items() if name in shapes or name not in may_lack
            }
            _check_shapes(path, shapes, there, sizes)
            arrays = {name: file.get_tensor(name) for name in there}
    except RegressionError:
        raise
    except (SafetensorError, ValueError, KeyError) as error:
        raise RegressionError(f"{path} cannot be read: {error}") from error
    for name, array in arrays.items():
        if np.isinf(array).any() or (np.isnan(array).any() and name not in may_be_nan):
            raise RegressionError(f"{path}: {name} holds numbers that are not finite.")
    return arrays


def _check_shapes(
    path: Path,
    shapes: Mapping[str, tuple[str, tuple[int, ...]]],
    dimensions: Mapping[str, tuple[str, ...]],
    sizes: Mapping[str, int],
) -> None:
    if shapes.keys() != dimensions.keys():
        raise RegressionError(f"{path} holds {sorted(shapes)}; expected are {sorted(dimensions)}.")
    known = dict(sizes)
    for name, names in dimensions.items():
        kind, shape = shapes[name]
        if len(shape) != len(names) or kind != "F64":
            raise RegressionError(f"{path}: {name} is {kind} of shape {shape}; expected F64 of {names}.")
        for dimension, length in zip(names, shape, strict=True):
            if known.setdefault(dimension, length) != length:
                raise RegressionError(
                    f"{path}: {name} has {length} {dimension}, but there are {known[dimension]}."
                )
