"""What a corpus validates on, for tests that look at its text."""

import json
from pathlib import Path

from regmix_hf.study import names


def held_out_texts(corpus: Path, domain: str) -> list[str]:
    """The documents of a domain that were held out, as they were before tokenization."""
    with (corpus / domain / names.HELD_OUT).open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]
