"""Numbers as a person writes them."""

from __future__ import annotations

import math

#: Below 10,000 all digits are read at a glance.
_UNITS = ((1e12, 1e12, "T"), (1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))

#: Numbers below this keep two digits wherever they stand.
_TINY = 1e-4


def short(number: float) -> str:
    """Write a number in three digits or four, the nearest.

    >>> short(950), short(9_999), short(12_288_000), short(0.25), short(-25e9)
    ('950', '9999', '12.3M', '0.25', '-25B')
    """
    size, unit = _unit(number)
    return f"{number / size:.3g}{unit}" if unit else f"{number:.4g}"


def count_of(number: int, thing: str) -> str:
    """Write how many things there are.

    >>> count_of(1, "file"), count_of(0, "run"), count_of(1_200, "file"), count_of(2, "proxy")
    ('1 file', '0 runs', '1,200 files', '2 proxies')
    """
    if number == 1:
        return f"1 {thing}"
    return f"{number:,} {f'{thing[:-1]}ie' if thing.endswith(('ry', 'xy')) else thing}s"


def at_most(number: float) -> str:
    """Write a number, 0 or more, like `short`, rounded down: never more than there is, or than is allowed.

    >>> at_most(12_288_000), at_most(12_999_999), at_most(950), at_most(0.9999)
    ('12.2M', '12.9M', '950', '0.999')
    """
    size, unit = _unit(number)
    value = number / size
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    if not unit:
        digits = max(digits, 0)
    return f"{math.floor(value * 10**digits + 1e-9) / 10**digits:g}{unit}"


def with_interval(value: float, low: float, high: float, digits: int) -> str:
    """Write a value with its interval, `digits` after the point; what is NaN was not measured.

    >>> with_interval(0.98, 0.9, 1.0, 2), with_interval(0.98, math.nan, math.nan, 3)
    ('0.98 [0.90, 1.00]', '0.980')
    >>> with_interval(math.nan, 0.0, 1.0, 2), with_interval(0.00002, 0.00001, 0.25, 4)
    ('-', '2e-05 [1e-05, 0.2500]')
    """
    if math.isnan(value):
        return "-"
    text, lower, upper = (fixed(number, f".{digits}f") for number in (value, low, high))
    return text if math.isnan(low) else f"{text} [{lower}, {upper}]"


def fixed(value: float, spec: str) -> str:
    """Write a number by a format with digits after the point, or by two digits where that would lose them.

    >>> fixed(0.25, ".3f"), fixed(0.00003, "+.4f"), fixed(0.000064, ".4f"), fixed(0.0, ".2f")
    ('0.250', '+3e-05', '6.4e-05', '0.00')
    """
    text = format(value, spec)
    is_tiny = value and (not float(text) or abs(value) < _TINY)
    return format(value, spec.partition(".")[0] + ".2g") if is_tiny else text


def duration(seconds: float) -> str:
    """Write a time span as a person says it.

    >>> duration(42), duration(150), duration(9000)
    ('42 s', '2.5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.2g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 172_800 else f"{seconds / 86_400:.3g} days"


def _unit(number: float) -> tuple[float, str]:
    for limit, size, name in _UNITS:
        if abs(number) >= limit:
            return size, name
    return 1.0, ""
