"""Pieces of work and the places that do them.

Three kinds of work stand beside each other: `proxies`, `finals`, `evaluations`. Behind one door, `place`, lie
the places that run them: `pool`, worker processes of this machine, and `launch`, launches of `accelerate`.
`dispatch` says what is open and what becomes of a task that fails, wherever it runs; `claims` who does it;
`results` how it ended. A new place is one new file: something with the method `run` of a `Place`.
"""
