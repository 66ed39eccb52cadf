"""Text of Debian's packages, for measuring: `python -m tests.benchmarks.debian_corpus FOLDER`.

On a machine with apt it fetches the packages that `SOURCES` names (and the program `bible-kjv` that reads the
King James Bible), installs nothing, and leaves in FOLDER a file of documents per domain, a multiple-choice
task for lm-eval and `recipe.yaml`. Fourteen domains to train on, four languages among them, one many times as
large as the others and three tiny; a hackers' glossary to validate on alone; and `which_definition`: which of
four definitions of the Free On-line Dictionary of Computing, which is no domain, is that of a word.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.seeds import generator

#: Where text is cut into documents.
_FORTUNE, _PARAGRAPHS = re.compile(r"^%%?$", re.M), re.compile(r"\n\n+(?=\S)")
#: Characters of a document, at most and at least.
_LONGEST, _SHORTEST = 5_000, 40
_TASK, _QUESTIONS, _CHOICES = "which_definition", 300, 4


@dataclass(frozen=True)
class Source:
    """Text of one package.

    Attributes:
        package: Its name, or the start of it.
        files: Which files of it, as a glob.
        characters: How many are kept.
        cut: Where files are cut into documents; `None`: nowhere.
    """

    package: str
    files: str
    characters: int = 1_200_000
    cut: re.Pattern[str] | None = None


SOURCES = {
    "kernel_docs": Source("linux-doc-6.12", "**/Documentation/**/*.rst.gz", 12_000_000),
    "bible": Source("bible-kjv-text", "**/kjv.txt"),
    "python_docs": Source("python3.11-doc", "**/_sources/**/*.txt"),
    "manpages_de": Source("manpages-de", "**/man?/*.gz"),
    "manpages_fr": Source("manpages-fr", "**/man?/*.gz"),
    "manpages_ru": Source("manpages-ru", "**/man?/*.gz"),
    "wordnet": Source("dict-wn", "**/wn.dict.dz", cut=_PARAGRAPHS),
    "fortunes": Source("fortunes", "usr/share/games/fortunes/*[a-z]", cut=_FORTUNE),
    "c_headers": Source("linux-libc-dev", "**/*.h"),
    "emacs_lisp": Source("emacs-el", "**/*.el.gz"),
    "postgresql": Source("postgresql-doc-15", "**/*.html"),
    "lilypond": Source("lilypond-data", "**/*.ly", 100_000),
    "devils_dictionary": Source("dict-devil", "**/*.dict.dz", 100_000, _PARAGRAPHS),
    "fortunes_de": Source("fortunes-de", "**/fortunes/de/*[a-z]", 150_000, _FORTUNE),
    "jargon": Source("jargon-text", "**/jargon.txt.gz", cut=_PARAGRAPHS),
}
_VALIDATION_ONLY = "jargon"
#: What the questions are made of.
_DICTIONARY = "dict-foldoc"

RECIPE = """\
name: debian
output_dir: {folder}/study
context_length: 128
tokenizer: {{train: {{vocab_size: 2048}}}}
domains:
{domains}
corpus: {{validation_fraction: 0.1, max_validation_tokens: 8_192}}
sampling:
  {{num_mixtures: 48, num_holdout: 12, experts: true, min_strength: 2, max_strength: 24, min_weight: 0.01}}
proxy:
  model: {{preset: tiny, num_hidden_layers: 1}}
  num_train_tokens: 307_200
  num_evaluations: 1
  tasks: [{task}]
  training_args: &arguments
    learning_rate: 3e-3
    lr_scheduler_type: constant_with_warmup
    warmup_steps: 30
    adam_beta2: 0.99
    per_device_train_batch_size: 8
    use_cpu: true
regression: {{estimators: [experts, power_law], target: {target}}}
choice: {{num_candidates: 100_000, max_epochs: 4, num_confirm: 0, force: true}}
train:
  model: {{preset: tiny, num_hidden_layers: 1}}
  num_train_tokens: 307_200
  training_args: *arguments
evaluation: {{tasks: [held_out_text], include_path: {folder}/tasks}}
"""


def main() -> None:
    """Fetch, unpack, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        unpack(root, [*(one.package for one in SOURCES.values()), _DICTIONARY, "bible-kjv"])
        for name, source in SOURCES.items():
            lines = [json.dumps({"text": text}) for text in documents(root, source, name)]
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        write_task(folder / "tasks", read(next((root / _DICTIONARY).glob("**/*.dict.dz"))))
    files = {name: f"{{path: json, data_files: {folder}/{name}.jsonl" for name in SOURCES}
    ends = {name: ", validation_only: true}" if name == _VALIDATION_ONLY else "}" for name in SOURCES}
    domains = "\n".join(f"  {name}: {files[name]}{ends[name]}" for name in SOURCES)
    recipe = RECIPE.format(folder=folder, domains=domains, task=_TASK, target=_VALIDATION_ONLY)
    (folder / "recipe.yaml").write_text(recipe)
    print(f"regmix run {folder} --to sample")


def unpack(root: Path, packages: list[str]) -> None:
    """Fetch packages and unpack each into a folder of its name; write the Bible as text."""
    subprocess.run(["apt-get", "download", *packages], cwd=root, check=True, capture_output=True)
    for package in packages:
        [file] = root.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", file, root / package], check=True)
    program, data = root / "bible-kjv/usr/bin/bible", root / "bible-kjv-text/usr/lib"
    verses = subprocess.run(
        [program, "-p", data, "-l", "0", "-f", "gen1:1-rev22:21"],
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    text = re.sub(r"^\S+ ", "", verses.stdout, flags=re.M)
    (root / "bible-kjv-text/kjv.txt").write_text(text)


def documents(root: Path, source: Source, key: str) -> Iterator[str]:
    """Documents of a package in random order, as many characters as are asked for."""
    found = [file for file in sorted((root / source.package).glob(source.files)) if file.is_file()]
    texts = [text for file in found for text in cut(read(file), source.cut)]
    left = source.characters
    for place in generator(0, "debian", key).permutation(len(texts)):
        if left <= 0:
            return
        yield texts[place][:left]
        left -= len(texts[place])


def read(file: Path) -> str:
    """Text of a file, unpacked, without markup."""
    raw = gzip.decompress(file.read_bytes()) if file.suffix in (".gz", ".dz") else file.read_bytes()
    text = raw.decode("utf-8", errors="replace")
    if file.suffix == ".html":
        text = html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"(?s)<head>.*?</head>", "", text)))
    if file.parent.name.startswith("man"):  # comments of groff are the licence of each page
        text = re.sub(r'^[.\']\\".*\n', "", text, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def cut(text: str, at: re.Pattern[str] | None) -> Iterator[str]:
    """Documents of a file; neighbours of a text that is cut at paragraphs stay together."""
    parts = at.split(text) if at else [text]
    if at is _PARAGRAPHS:
        parts = ["\n\n".join(parts[k : k + 20]) for k in range(0, len(parts), 20)]
    for part in parts:
        for start in range(0, len(part), _LONGEST):
            if len(piece := part[start : start + _LONGEST].strip()) >= _SHORTEST:
                yield piece


def write_task(folder: Path, dictionary: str) -> None:
    """Write questions, and the task that asks them: a word, and four definitions of which one is its own."""
    entry = re.compile(r"^(\S[^\n]{2,30})\n\n {3}(?:<[^>]+> )?((?:[^\n]+\n)+)", re.M)
    entries = [(word, re.sub(r"\s+", " ", text)) for word, text in entry.findall(dictionary)]
    first = [(word, re.sub(r"[{}]", "", text.split(". ")[0]).strip(". ") + ".") for word, text in entries]
    known = [(word, text) for word, text in first if 60 <= len(text) <= 200]
    rng, rows = generator(0, "debian", "questions"), []
    for places in rng.permutation(len(known))[: _QUESTIONS * _CHOICES].reshape(_QUESTIONS, _CHOICES):
        right = int(rng.integers(_CHOICES))
        choices = [known[place][1] for place in places]
        rows.append({"word": known[places[right]][0], "choices": choices, "right": right})
    (folder / f"{_TASK}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": _TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{_TASK}.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{word}}:",
        "doc_to_choice": "choices",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / f"{_TASK}.yaml").write_text(json.dumps(task))


if __name__ == "__main__":
    main()
