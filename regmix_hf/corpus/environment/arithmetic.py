"""School mathematics, generated: in the manner of DeepMind Mathematics (Saxton et al., arXiv 1904.01557)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

#: Of all draws; the text depends on nothing else.
_SEED = 0x61726974
_QUESTIONS_PER_DOCUMENT = 24

_NAMES = tuple("abcdefghijklmnopqrstuvwxyz")
_UNITS = (
    ("kilometers", "meters", 1000),
    ("meters", "centimeters", 100),
    ("hours", "minutes", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("kilograms", "grams", 1000),
    ("liters", "milliliters", 1000),
    ("decades", "years", 10),
)

Draw = np.random.Generator
Question = tuple[str, str]


def arithmetic() -> Iterator[str]:
    """Documents without end, each of questions of one kind: a line for each question and each answer."""
    draw = np.random.default_rng(np.random.SeedSequence(_SEED))
    while True:
        ask = _KINDS[draw.integers(len(_KINDS))]
        questions = (ask(draw) for _ in range(_QUESTIONS_PER_DOCUMENT))
        yield "\n".join(f"{question}\n{answer}" for question, answer in questions)


def _integer(draw: Draw) -> int:
    """An integer of one to six digits, every length as likely as any other."""
    size = 10 ** int(draw.integers(1, 7))
    return int(draw.integers(-size, size))


def _positive(draw: Draw, largest: int) -> int:
    return int(draw.integers(1, largest + 1))


def _choice(draw: Draw, options: tuple[str, ...]) -> str:
    return options[draw.integers(len(options))]


def _add(draw: Draw) -> Question:
    a, b = _integer(draw), _integer(draw)
    forms = (f"Calculate {a} + {b}.", f"What is {a} plus {b}?", f"Add {a} and {b}.", f"Total of {a} and {b}.")
    return _choice(draw, forms), str(a + b)


def _subtract(draw: Draw) -> Question:
    a, b = _integer(draw), _integer(draw)
    forms = (f"What is {a} minus {b}?", f"Subtract {b} from {a}.", f"Work out {a} - {b}.")
    return _choice(draw, forms), str(a - b)


def _multiply(draw: Draw) -> Question:
    a, b = _integer(draw), int(draw.integers(-99, 100))
    forms = (f"Multiply {a} and {b}.", f"What is the product of {a} and {b}?", f"{a} * {b}")
    return _choice(draw, forms), str(a * b)


def _divide(draw: Draw) -> Question:
    a, b = _integer(draw), _positive(draw, 60)
    return _choice(draw, (f"Divide {a} by {b}.", f"Calculate {a} divided by {b}.")), str(Fraction(a, b))


def _remainder(draw: Draw) -> Question:
    a, b = abs(_integer(draw)), _positive(draw, 500)
    return f"Calculate the remainder when {a} is divided by {b}.", str(a % b)


def _common_divisor(draw: Draw) -> Question:
    factor = _positive(draw, 40)
    a, b = factor * _positive(draw, 200), factor * _positive(draw, 200)
    return f"What is the greatest common divisor of {a} and {b}?", str(math.gcd(a, b))


def _common_multiple(draw: Draw) -> Question:
    a, b = _positive(draw, 400), _positive(draw, 60)
    return f"Calculate the smallest common multiple of {a} and {b}.", str(math.lcm(a, b))


def _prime_factors(draw: Draw) -> Question:
    number = _positive(draw, 5000) + 1
    factors, left = [], number
    for candidate in range(2, math.isqrt(number) + 1):
        while left % candidate == 0:
            left //= candidate
            factors.append(candidate)
    factors += [left] if left > 1 else []
    return f"List the prime factors of {number}.", ", ".join(map(str, sorted(set(factors))))


def _base(draw: Draw) -> Question:
    number, base = abs(_integer(draw)), int(draw.integers(2, 17))
    return f"What is {number} (base 10) in base {base}?", np.base_repr(number, base).lower()


def _linear_equation(draw: Draw) -> Question:
    slope = _positive(draw, 40)
    solution, constant = int(draw.integers(-60, 61)), int(draw.integers(-400, 401))
    x = _choice(draw, _NAMES)
    return f"Solve {slope}*{x} {constant:+d} = {slope * solution + constant} for {x}.", str(solution)


def _simultaneous_equations(draw: Draw) -> Question:
    x, y = int(draw.integers(-12, 13)), int(draw.integers(-12, 13))
    a, b, c, d = (_positive(draw, 9) for _ in range(4))
    if a * d == b * c:
        d += 1  # else there is no single solution
    return f"Solve {a}*x + {b}*y = {a * x + b * y}, {c}*x + {d}*y = {c * x + d * y} for x.", str(x)


def _next_term(draw: Draw) -> Question:
    start, step, growth = (int(draw.integers(-99, 100)) for _ in range(3))
    growth = growth // 20
    terms = [start + step * n + growth * n * n for n in range(6)]
    return f"What is the next term in {', '.join(map(str, terms[:5]))}?", str(terms[5])


def _sort(draw: Draw) -> Question:
    numbers = [_integer(draw) for _ in range(draw.integers(3, 7))]
    down = bool(draw.integers(2))
    order = "decreasing" if down else "increasing"
    question = f"Sort {', '.join(map(str, numbers))} in {order} order."
    return question, ", ".join(map(str, sorted(numbers, reverse=down)))


def _compare(draw: Draw) -> Question:
    a, b = Fraction(_integer(draw), _positive(draw, 90)), Fraction(_integer(draw), _positive(draw, 90))
    return f"Which is bigger: {a} or {b}?", str(max(a, b))


def _add_fractions(draw: Draw) -> Question:
    a, b = (Fraction(int(draw.integers(-40, 41)), _positive(draw, 40)) for _ in range(2))
    return f"Calculate {a} + {b}.".replace("+ -", "- "), str(a + b)


def _polynomial(draw: Draw) -> Question:
    a, b, c, x = (int(draw.integers(-20, 21)) for _ in range(4))
    f, n = _choice(draw, ("f", "g", "h", "p")), _choice(draw, _NAMES[15:])
    return f"Let {f}({n}) = {a}*{n}**2 {b:+d}*{n} {c:+d}. What is {f}({x})?", str(a * x * x + b * x + c)


def _derivative(draw: Draw) -> Question:
    a, b, c = (int(draw.integers(-60, 61)) for _ in range(3))
    n = _choice(draw, _NAMES[15:])
    return (
        f"Differentiate {a}*{n}**3 {b:+d}*{n}**2 {c:+d}*{n} wrt {n}.",
        f"{3 * a}*{n}**2 {2 * b:+d}*{n} {c:+d}",
    )


def _units(draw: Draw) -> Question:
    large, small, factor = _UNITS[draw.integers(len(_UNITS))]
    number = _positive(draw, 2000)
    if draw.integers(2):
        return f"How many {small} are there in {number} {large}?", str(number * factor)
    return f"Convert {number} {small} to {large}.", str(Fraction(number, factor))


def _clock(draw: Draw) -> Question:
    start, span = int(draw.integers(24 * 60)), int(draw.integers(1, 12 * 60))
    return f"What is {span} minutes after {_time(start)}?", _time(start + span)


def _time(minutes: int) -> str:
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _round(draw: Draw) -> Question:
    number, digits = _integer(draw) * 10 + _positive(draw, 4), int(draw.integers(1, 5))
    unit = 10**digits
    return f"Round {number} to the nearest {unit}.", str((number + unit // 2) // unit * unit)


def _letters(draw: Draw) -> Question:
    bag = sorted(_choice(draw, _NAMES[:5]) for _ in range(draw.integers(4, 12)))
    letter = _choice(draw, tuple(bag))
    question = f"What is the probability of picking {letter} from {''.join(bag)}?"
    return question, str(Fraction(bag.count(letter), len(bag)))


_KINDS: tuple[Callable[[Draw], Question], ...] = (
    *(_add, _subtract, _multiply, _divide, _remainder, _common_divisor, _common_multiple),
    *(_prime_factors, _base, _linear_equation, _simultaneous_equations, _next_term, _sort, _compare),
    *(_add_fractions, _polynomial, _derivative, _units, _clock, _round, _letters),
)
