"""Memory is bounded by constants, not by the corpus."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from regmix_hf.recipe import Recipe

pytestmark = pytest.mark.cold_processes

SCRIPT = """
import resource, sys
from pathlib import Path
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.recipe import Recipe

for recipe, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    prepare_corpus(Recipe.model_validate_json(Path(recipe).read_text()), Path(folder))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

#: Arrow's own and those of each thread keep what was freed, now more, now less: 20 to 50 MB.
ALLOCATORS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "0"}

#: Long words are soon tokenized: the test is of megabytes, not of tokens.
WORDS = [f"{letter * 38}{number:x}" for letter in "abcdefgh" for number in range(16)]


def save_tokenizer(folder: Path) -> None:
    """Every word is a token."""
    vocab = {word: number for number, word in enumerate(["<unk>", "<eos>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder)


def write_text(file: Path, num_bytes: int) -> None:
    """Documents of 10 kB, no two alike."""
    filler = [" ".join(WORDS[(n * 31 + k * k) % len(WORDS)] for k in range(250)) for n in range(len(WORDS))]
    with file.open("w") as lines:
        for number in range(num_bytes // 10_000):
            lines.write(f'{{"text": "{number} {filler[number % len(filler)]}"}}\n')


def test_four_times_the_text_takes_no_more_memory(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    save_tokenizer(tmp_path / "tokenizer")
    arguments: list[str | Path] = []
    for name, size in (("small", 20_000_000), ("large", 80_000_000)):
        write_text(tmp_path / f"{name}.jsonl", size)
        recipe = make_recipe(
            {"a": {"path": "json", "data_files": str(tmp_path / f"{name}.jsonl"), "streaming": True}},
            tokenizer=str(tmp_path / "tokenizer"),
            corpus={"num_proc": 1, "max_validation_tokens": 100_000},
        )
        (tmp_path / f"{name}.json").write_text(recipe.model_dump_json())
        arguments += [tmp_path / f"{name}.json", tmp_path / name]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    ran = subprocess.run(command, env=os.environ | ALLOCATORS, capture_output=True, text=True, check=True)
    small, large = (int(line) / 1024 for line in ran.stdout.split())
    assert large - small < 40, f"{large - small:.0f} MB more for 60 MB more of text"  # measured: 23
