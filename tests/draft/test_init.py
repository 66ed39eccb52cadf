"""`regmix init`: from folders and files of text to a recipe that is valid and runs as it stands."""

import gzip
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from regmix_hf.corpus.local_files import find_files
from regmix_hf.draft import Findings, FoundDomain, find_domains, scale, write_draft, writing
from regmix_hf.draft.scale import CPU, GPU, first_budget
from regmix_hf.errors import DataError
from regmix_hf.mixtures import sampling_constraints
from regmix_hf.mixtures.final import final_constraints
from regmix_hf.recipe import Domain, load_recipe
from tests.cli.conftest import regmix  # noqa: F401 - a fixture

WORDS = (
    "the",
    "of",
    "page",
    "reads",
    "options",
    "file",
    "default",
    "value",
    "when",
    "error",
    "returns",
    "text",
)


def prose(number: int, words: int) -> str:
    draw = random.Random(number)
    lines = [" ".join(draw.choices(WORDS, k=12)) for _ in range(words // 12)]
    return "\n\n".join("\n".join(lines[first : first + 4]) for first in range(0, len(lines), 4)) + "\n"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nested documentation in .gz, one book, a dictionary in .jsonl.gz, code, and what is none of these."""
    root = tmp_path_factory.mktemp("library")
    for number in range(30):
        page = root / f"manuals/part-{number % 3}/page-{number}.txt.gz"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_bytes(gzip.compress(prose(number, 600).encode()))
        code = root / f"code/module_{number}.py"
        code.parent.mkdir(exist_ok=True)
        code.write_text("".join(f"def f{n}(x):\n    return x + {n * number}\n\n\n" for n in range(80)))
    (root / "manuals/cover.png").write_bytes(b"\x89PNG\0")
    (root / "manuals/sizes.csv").write_text("a,b\n1,2\n")
    (root / "book.txt").write_text(prose(99, 20_000))
    entries = [{"word": f"word {n}", "meaning": prose(n, 60)} for n in range(300)]
    with gzip.open(root / "dictionary.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)
    (root / "notes").mkdir()
    (root / "notes/today.md").write_text("little\n\n" * 30)
    (root / "broken").mkdir()
    (root / "broken/latin.txt").write_bytes(b"caf\xe9 " * 9000)
    return root


@pytest.fixture(autouse=True)
def _no_long_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regmix_hf.plan._MEASURED_SECONDS", 0.0)


@pytest.mark.processes
def test_the_recipe_is_valid_and_runs_as_it_stands(folder, tmp_path, regmix, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "recipe.yaml"
    written = regmix("init", folder, "--output", file)
    assert written.code == 0, written.err
    assert f"Next: regmix run {file} --dry-run" in written.err
    for line in (
        "left out: manuals: 1 .png, 1 .csv",
        "latin.txt cannot be read as UTF-8",
        "notes: 240 bytes of text in 1 file",
    ):
        assert line in written.err
    domains = load_recipe(file).domains
    assert sorted(domains) == ["book", "code", "dictionary", "manuals"]
    assert domains["book"].sample_by == "paragraph"
    assert domains["dictionary"].text_column == "meaning"
    assert domains["code"].data_files == [f"{folder}/code/**/*.py"]
    for sentence in ("# Left out:", "1 .png, 1 .csv", "30 files, 30 documents"):
        assert sentence in file.read_text()

    assert regmix("validate", file).code == 0
    shrunk = [f"{section}.model.hidden_size=16" for section in ("proxy", "train")]
    shrunk += [f"{section}.training_args.warmup_steps=1" for section in ("proxy", "train")]
    tiny = ["proxy.num_train_tokens=2048", "sampling.num_mixtures=10", "sampling.num_holdout=2"]
    tiny += ["corpus.max_validation_tokens=512", "corpus.num_proc=1", "proxy.num_evaluations=1"]
    tiny += ["regression.estimators=[power_law]", "regression.estimator=power_law"]  # `auto` asks for 16 runs
    ran = regmix("run", file, *shrunk, *tiny, "--to", "proxies")
    assert ran.code == 0, ran.err
    assert "manuals" in ran.out


def test_nothing_is_written_over(folder, tmp_path, regmix):  # noqa: F811
    file = tmp_path / "recipe.yaml"
    file.write_text("mine")
    outcome = regmix("init", folder, "--output", file)
    assert (outcome.code, file.read_text()) == (2, "mine")
    assert "--output FILE" in outcome.err


def test_a_folder_of_one_kind_of_text_says_what_to_do(folder, tmp_path, regmix):  # noqa: F811
    outcome = regmix("init", folder / "code", "--output", tmp_path / "recipe.yaml")
    assert outcome.code == 2
    assert "make a folder for each kind of text" in outcome.err
    assert not list(tmp_path.iterdir())


def test_paths_start_at_the_recipe_unless_the_working_directory_has_such_a_name(tmp_path, monkeypatch):
    text, elsewhere = tmp_path / "text", tmp_path / "elsewhere"
    for place in (text / "a", text / "b", elsewhere / "b"):
        place.mkdir(parents=True)
        (place / "x.txt").write_text(prose(1, 20_000))
    monkeypatch.chdir(elsewhere)
    paths = {domain.name: domain.keys["path"] for domain in find_domains(text, text).domains}
    assert paths == {"a": "a", "b": str(text / "b")}


def test_folders_that_are_too_small_are_one_domain_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, pages in (("large", 40), ("one", 4), ("two", 4), ("three", 4)):
        (tmp_path / name).mkdir()
        for number in range(20 * pages // 4):
            (tmp_path / name / f"{number}.txt").write_text(prose(number, 200))
    found = find_domains(tmp_path, tmp_path)
    assert [domain.name for domain in found.domains] == ["large", "rest"]
    assert found.domains[1].keys == {"path": ".", "data_files": ["one", "three", "two"]}
    assert found.domains[1].num_documents == 60
    assert found.left_out == ()


def test_files_that_are_no_text_keep_out_themselves_and_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(50):
        for end in ("Code", "many", *(["few"] if number < 30 else [])):
            (tmp_path / "a").mkdir(exist_ok=True)
            (tmp_path / "a" / f"{number}.{end}").write_text(prose(number, 200))
    (tmp_path / "b").mkdir()  # beside it: of a folder alone the files are looked at one by one
    (tmp_path / "b" / "b.txt").write_text(prose(1, 20_000))
    (tmp_path / "a" / "latin.few").write_bytes(b"caf\xe9")
    for name in ("latin", "17"):
        (tmp_path / "a" / f"{name}.many").write_bytes(b"caf\xe9")
    found = find_domains(tmp_path, tmp_path)
    domain = next(domain for domain in found.domains if domain.name == "a")
    assert sorted(domain.keys["data_files"]) == sorted(
        [
            *("a/**/*.Code", *(f"a/{n}.few" for n in range(30))),
            *("a/[023456789]*.many", "a/1.many", "a/1[012345689]*.many"),
        ]
    )
    assert domain.num_documents == 50 + 30 + 49
    assert set(found.left_out) == {
        f"a: 2 .many, for {tmp_path}/a/17.many, {tmp_path}/a/latin.many cannot be read as UTF-8: convert "
        "or move what cannot",
        f"a: 1 .few, for {tmp_path}/a/latin.few cannot be read as UTF-8: convert or move what cannot",
    }


def test_one_file_that_is_no_text_keeps_out_its_neighbours_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(60):
        place = tmp_path / "a" / ("good" if number < 50 else "bad")
        (place / "deep").mkdir(parents=True, exist_ok=True)
        (place / ("deep" if number % 2 else ".") / f"{number}.many").write_text(prose(number, 200))
    (tmp_path / "a" / "bad" / "latin.many").write_bytes(b"caf\xe9")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "b.txt").write_text(prose(1, 20_000))
    found = find_domains(tmp_path, tmp_path)
    domain = next(domain for domain in found.domains if domain.name == "a")
    assert sorted(domain.keys["data_files"]) == sorted(
        ["a/good/**/*.many", "a/bad/deep/**/*.many", *(f"a/bad/{n}.many" for n in range(50, 60, 2))]
    )
    assert domain.num_documents == 60
    assert found.left_out == (
        f"a: 1 .many, for {tmp_path}/a/bad/latin.many cannot be read as UTF-8: convert or move what cannot",
    )


def test_one_file_that_cannot_be_read_leaves_the_others_of_a_known_kind_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(30):
        for name in ("texts", "mixed/pages", "shards"):
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / f"{number}.txt").write_text(prose(number, 300))
        (tmp_path / f"part-{number}.jsonl").write_text(json.dumps({"text": prose(number, 300)}) + "\n")
    (tmp_path / "texts" / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "mixed" / "rows.jsonl").write_text('{"text": "no end')
    (tmp_path / "part-30.jsonl").write_text("no row\n")
    (tmp_path / "shards" / "0.md").write_bytes(b"\xff" * 20)
    found = find_domains(tmp_path, tmp_path)
    keys = {domain.name: domain.keys for domain in found.domains}
    assert {domain.num_documents for domain in found.domains} == {30}
    assert keys["part"] == {
        "path": "json",
        "data_files": [f"part-{n}.jsonl" for n in sorted(range(30), key=str)],
    }
    assert keys["mixed"] == {"path": "mixed", "data_files": ["**/*.txt"]}
    assert keys["shards"] == {"path": "shards", "data_files": ["**/*.txt"]}
    assert sorted(keys["texts"]["data_files"]) == sorted(f"{n}.txt" for n in range(30))
    assert [said.partition(", for ")[0] for said in found.left_out] == [
        *("mixed: 1 .jsonl", "shards: 1 .md", "texts: 1 .txt", "part: 1 .jsonl")
    ]
    assert "latin.txt cannot be read as UTF-8" in found.left_out[2]
    assert "part-30.jsonl" in found.left_out[3]
    for domain in found.domains:  # a recipe reads what was found
        read = find_files(Domain.model_validate(domain.keys))
        assert {file.resolve() for file in read.paths} == {file.resolve() for file in domain.files}


def test_the_scale_follows_from_text_and_machine():
    small = first_budget(3_000_000, 30, num_gpus=8)
    assert small.scale is CPU, "too little text for the steps of a GPU's model"
    assert small.proxy_tokens == CPU.most_tokens
    assert small.num_mixtures == 90
    large = first_budget(400_000_000, 4, num_gpus=1)
    assert large.scale is GPU
    assert large.proxy_tokens == 100_000_000 // GPU.tokens_of_step * GPU.tokens_of_step
    slow = small.within(seconds=2 * CPU.hours * 3600)
    assert slow.proxy_tokens == CPU.most_tokens // 2
    assert small.within(seconds=60.0) == small
    with pytest.raises(DataError, match="are too little"):
        first_budget(100_000, 2, num_gpus=0)


def test_few_runs_for_many_domains_are_spent_on_experts_too(tmp_path):
    file, budget = tmp_path / "recipe.yaml", first_budget(3_000_000, 6, num_gpus=0)
    found = [FoundDomain(name, {"path": name}, (tmp_path / name,), 30, 500_000) for name in "abcdef"]
    file.write_text(writing._text(Findings(tuple(found), ()), budget, tmp_path, file))
    recipe = load_recipe(file)
    assert recipe.sampling.experts
    assert recipe.sampling.num_mixtures == 20 - 6
    assert recipe.regression.estimator == "experts_and_law"
    assert not first_budget(3_000_000, 5, num_gpus=0).experts
    assert not first_budget(400_000_000, 8, num_gpus=1).experts, "nobody measured so many tokens"


def test_mixtures_may_have_as_much_of_a_small_domain_as_a_final_model(tmp_path):
    sizes = {"large": 9_000_000, "middle": 400_000, "small": 100_000}
    budget = first_budget(sum(sizes.values()), len(sizes), num_gpus=0)
    found = [FoundDomain(name, {"path": name}, (tmp_path,), 30, size) for name, size in sizes.items()]
    text = writing._text(Findings(tuple(found), ()), budget, tmp_path, tmp_path)
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = load_recipe(tmp_path)
    tokens = {name: budget.scale.num_tokens(size) for name, size in sizes.items()}
    swarm = sampling_constraints(recipe.sampling, tokens, num_train_tokens=budget.proxy_tokens)
    final = final_constraints(recipe, tokens)
    assert (swarm.upper >= final.upper).all()
    denser = {name: round(1.4 * count) for name, count in tokens.items()}  # than other text that was counted
    swarm_of_denser = sampling_constraints(recipe.sampling, denser, num_train_tokens=budget.proxy_tokens)
    assert (swarm_of_denser.upper >= final_constraints(recipe, denser).upper).all()
    epochs = swarm.upper * budget.proxy_tokens / list(tokens.values())
    assert epochs.max() <= 4, "a proxy reads none more often"
    assert f"{100 * final.upper[-1]:.3g} % of small" in text


def test_a_recipe_for_a_gpu_is_valid_too(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "cuda_devices", lambda: ["0"])
    monkeypatch.setattr(scale, "GPU", replace(GPU, num_blocks=1))  # else this text is too little
    monkeypatch.setattr(scale, "_LEAST_STEPS", 10)
    monkeypatch.setattr("regmix_hf.plan._MEASURED_FLOPS", {"cpu": 0.0})  # no GPU to measure here
    draft = write_draft(folder, tmp_path / "recipe.yaml")
    recipe = load_recipe(draft.file)
    assert recipe.proxy.model.preset == "regmix-1m"
    assert recipe.proxy.training_args["bf16"] is True
    assert draft.seconds is not None  # from the operations and a usual GPU's peak
    assert 0 < draft.seconds < GPU.hours * 3600
    assert "proxy.training_args" in draft.checked
