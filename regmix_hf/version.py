"""The version of this package, as results and reports of bugs name it."""

VERSION = "0.1.0"
