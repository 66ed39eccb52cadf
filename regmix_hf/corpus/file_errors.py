"""What is wrong with a file, said before it is known whose file it is."""

from __future__ import annotations

from regmix_hf.errors import DataError


class FileError(DataError):
    """A file cannot be read; whoever knows the domain says which it is."""


class LineError(ValueError):
    """A line cannot be read.

    Attributes:
        end: The byte after it, where that is known.
        fault: What is wrong with it, as the end of a sentence.
        line: Its number from 1, where that is known.
    """

    def __init__(self, end: int | None, fault: str, line: int | None = None):
        super().__init__(f"a line {'' if end is None else f'before byte {end} '}{fault}")
        self.end, self.fault, self.line = end, fault, line


def not_utf8(byte: int, value: int) -> str:
    """Say that the byte number `byte` of a line, from 1, is none of UTF-8."""
    return f"is not UTF-8: byte {byte} is {value:#04x}."


def decoded(line: bytes, end: int) -> str:
    """The text of a line that ends at the byte `end` of its file.

    Raises:
        LineError: It is not UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LineError(end, not_utf8(error.start + 1, line[error.start])) from None
