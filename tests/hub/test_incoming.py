"""A published study is data from strangers: what is not as it should be is refused and leaves nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load, save

from regmix_hf.errors import HubError, RegmixError, StudyError
from regmix_hf.progress import Silent
from regmix_hf.regression import MixtureRegressor
from regmix_hf.runs.published import load_published
from regmix_hf.sharing import pull_study
from regmix_hf.sharing.tables import read_table_json, table_json
from regmix_hf.stages import prepare, report
from regmix_hf.study import Study
from regmix_hf.study.origin import require_accepted


@pytest.fixture
def tampered(pushed, standin) -> Callable[[str, str, Callable[[bytes], bytes]], None]:
    """Put something else in the place of one file of a version that was published."""

    def change(repository: str, path: str, edit: Callable[[bytes], bytes]) -> None:
        repo = standin.repo(f"me/small-{repository}")
        blob = repo.head.files[path]
        files = {**repo.head.files, path: type(blob)(edit(blob.content), blob.large)}
        repo.tags["v1"] = repo.add_commit("main", files, title="Tamper", author="me").oid

    return change


def as_json(edit: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        tree = json.loads(content)
        edit(tree)
        return json.dumps(tree).encode()

    return change


def as_table(edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        buffer = io.BytesIO()
        edit(pd.read_parquet(io.BytesIO(content))).to_parquet(buffer, index=False)
        return buffer.getvalue()

    return change


def add(text: str) -> Callable[[bytes], bytes]:
    return lambda content: content + text.encode()


def swap(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    return change


def one_row_less(content: bytes) -> bytes:
    return save({name: np.ascontiguousarray(array[1:]) for name, array in load(content).items()})


def twice(table: pd.DataFrame) -> pd.DataFrame:
    """The first row again, with other numbers."""
    again = table.head(1).assign(**{name: table[name].iloc[1] for name in table.columns[1:]})
    return pd.concat([table, again], ignore_index=True)


def wide_parquet() -> bytes:
    buffer = io.BytesIO()
    table = pa.table({f"c{k}": [1] for k in range(40_000)})  # a million take a minute, and are counted alike
    pq.write_table(table, buffer, compression="none", use_dictionary=False)
    return buffer.getvalue()


def wide_json() -> bytes:
    return json.dumps({"columns": [f"c{k}" for k in range(1_000_000)], "rows": []}).encode()


def deep_lines() -> bytes:
    return b"".join(b" " * depth + b"a:\n" for depth in range(1_000))


WRONG = [
    ("runs", "results.parquet", as_table(lambda t: t.assign(**{"weight/code": np.nan})), "'code' is nan"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(**{"weight/code": 2.0})), "sum to"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(**{"loss/code": "x"})), "holds no numbers"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(**{"loss/../x": 1.0})), "no column of a table"),
    ("runs", "results.parquet", as_table(lambda t: t.drop(columns="scale")), "'scale' is missing"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(seed=0.5)), "no whole numbers"),
    ("runs", "results.parquet", lambda content: b"PAR1", "cannot be read as Parquet"),
    ("runs", "results.parquet", as_table(twice), "has more than one row"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(x=[[1]] * len(t))), "which no table has"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(x=[{"a": 1}] * len(t))), "which no table has"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(x=[b"1"] * len(t))), "which no table has"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(status="fine")), "status is 'fine'"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(split="x")), "split is 'x'"),
    ("runs", "results.parquet", as_table(lambda t: t.assign(mixture_id="m9")), "names the mixture 'm9'"),
    ("runs", "results.parquet", lambda content: wide_parquet(), "Exceeded size limit"),
    ("runs", "mixtures.parquet", as_table(twice), "has more than one row"),
    ("runs", "mixtures.parquet", as_table(lambda t: t.assign(rung="top")), "no whole numbers"),
    (
        "runs",
        "trajectories.parquet",
        as_table(lambda t: t.assign(step="many")),
        "no numbers in the column 'step'",
    ),
    ("runs", "recipe.yaml", lambda content: content.decode().encode("utf-16"), "no YAML"),
    ("runs", "recipe.yaml", lambda content: content + "name: café".encode("latin-1"), "no YAML"),
    ("runs", "recipe.yaml", lambda content: b"x: " + b"[" * 50_000, "nested more than"),
    ("runs", "recipe.yaml", lambda content: b"- " * 50_000, "nested more than"),
    ("runs", "recipe.yaml", lambda content: b"{a: " * 50_000, "nested more than"),
    ("runs", "recipe.yaml", lambda content: deep_lines(), "nested more than"),
    ("runs", "corpus.json", lambda content: b"[" * 50_000, "cannot be read as JSON"),
    ("runs", "corpus.json", lambda content: content.decode().encode("utf-16"), "cannot be read as JSON"),
    ("regressor", "quality.json", lambda content: wide_json(), "1,000,000 columns"),
    ("regressor", "quality.json", as_json(lambda t: t["rows"][0].__setitem__(5, "x")), "no numbers"),
    ("regressor", "quality.json", as_json(lambda t: t["rows"][0].__setitem__(0, 5)), "than texts"),
    ("regressor", "quality.json", as_json(lambda t: t.update(rows=[])), "do not make a study"),
    ("regressor", "summary.json", as_json(lambda t: t.update(target="none")), "do not make a study"),
    ("regressor", "summary.json", as_json(lambda t: t.update(verdict="good")), "do not make a study"),
    ("regressor", "summary.json", as_json(lambda t: t.update(promises={"ridge": 1})), "do not make a study"),
    ("mixture", "mixture.yaml", add("rounds: [{number: one}]\n"), "holds rounds that cannot be read"),
    ("mixture", "mixture.yaml", swap("  word: ", "  mood: "), "do not make a study"),
    ("mixture", "mixture.yaml", swap("coverage: 0.9", "coverage: high"), "do not make a study"),
    ("mixture", "mixture.yaml", lambda content: content + b"# caf\xe9", "no YAML"),
    (
        "mixture",
        "mixture.parquet",
        as_table(lambda t: t.assign(weight="much")),
        "no numbers in the column 'weight'",
    ),
    ("mixture", "mixture.parquet", as_table(twice), "has more than one row"),
    (
        "mixture",
        "scores.parquet",
        as_table(lambda t: t.assign(value="high")),
        "no numbers in the column 'value'",
    ),
    ("mixture", "final_trajectories.parquet", as_table(lambda t: t.assign(step="x")), "no numbers"),
    ("runs", "mixtures.parquet", as_table(lambda t: t.assign(**{"weight/prose": -1.0})), "is -1.0"),
    ("runs", "trajectories.parquet", as_table(lambda t: t.drop(columns="step")), "no column 'step'"),
    ("runs", "corpus.json", as_json(lambda t: t["domains"].pop("maths")), "name different domains"),
    (
        "runs",
        "corpus.json",
        as_json(lambda t: t["domains"]["code"]["train"].update(num_tokens=0)),
        "needs tok",
    ),
    ("runs", "corpus.json", as_json(lambda t: t.update(vocab_size="many")), "vocab_size"),
    ("runs", "recipe.yaml", add("extra: 1\n"), "unknown key"),
    ("runs", "recipe.yaml", swap("seed: 7", "seed: &a 7\nx: *a"), "holds aliases"),
    ("runs", "recipe.yaml", add("a: [" * 2000), "nested more than"),
    ("runs", "stages.json", lambda content: b'{"fit": 3}', "'fit' was finished with"),
    ("regressor", "estimator.safetensors", one_row_less, "but there are"),
    ("regressor", "out_of_fold.safetensors", lambda content: content[:100], "cannot be read"),
    ("regressor", "config.json", as_json(lambda t: t["domains"].append("more")), "there are"),
    ("regressor", "config.json", as_json(lambda t: t.update(domains=["a", "a", "b"])), "no different names"),
    ("regressor", "config.json", as_json(lambda t: t.update(estimator="os")), "'os' is no estimator"),
    ("regressor", "ridge/config.json", as_json(lambda t: t.update(estimator="own_weight")), "ridge"),
    ("regressor", "summary.json", as_json(lambda t: t["estimators"].append("../../x")), "'../../x' is no"),
    ("regressor", "summary.json", as_json(lambda t: t.update(estimator="x")), "names 'x'"),
    ("regressor", "quality.json", as_json(lambda t: t["rows"].append([1])), "plain values"),
    ("regressor", "quality.json", swap("0.", "1e999, 0."), "too large for a number"),
    ("mixture", "mixture.yaml", swap("weights:", "weight:"), "lacks some of"),
    ("mixture", "mixture.yaml", add("x: !!python/object/apply:os.system [ls]\n"), "no YAML"),
    ("mixture", "mixture.parquet", as_table(lambda t: t.drop(columns="prior")), "no column 'prior'"),
    ("mixture", "final_results.parquet", as_table(lambda t: t.assign(**{"weight/code": 9.0})), "sum to"),
]


@pytest.mark.usefixtures("fetched_once")
def test_what_is_not_as_it_should_be_is_refused_and_nothing_is_left(tampered, standin, stages, tmp_path):
    """One after the other on one published study, each undone before the next."""
    good = {name: dict(repo.tags) for name, repo in standin.store.repos.items()}
    otherwise = []
    for number, (repository, path, edit, message) in enumerate(WRONG):
        for name, repo in standin.store.repos.items():
            repo.tags = dict(good[name])
            repo.branches["main"] = repo.tags["v1"]
        tampered(repository, path, edit)
        folder = tmp_path / str(number)
        said = "nothing was refused"
        try:
            pull_study("me/small@v1", stages, folder, only=["runs", repository])
        except RegmixError as error:
            said = str(error)
        if message not in said or folder.exists():
            otherwise.append((repository, path, message, said))
    assert otherwise == []


@pytest.mark.usefixtures("fetched_once")
def test_what_passes_a_pull_passes_a_report_whatever_is_beside_it(tampered, standin, stages, tmp_path):
    """Columns and keys that nobody knows, of types that tables may have."""
    odd = {"note": "x", "when": pd.Timestamp("2026-01-01"), "is_odd": True, "big": 2**60, "missing": None}
    for number, (repository, path, edit) in enumerate(
        [
            ("runs", "results.parquet", as_table(lambda t: t.assign(**odd))),
            ("runs", "mixtures.parquet", as_table(lambda t: t.assign(**odd))),
            ("runs", "results.parquet", as_table(lambda t: t.assign(device=None, versions=None))),
            ("runs", "results.parquet", as_table(lambda t: t.assign(**{"loss/letters": np.inf}))),
            ("runs", "trajectories.parquet", as_table(lambda t: t.head(0))),
            ("regressor", "summary.json", as_json(lambda t: t.update(note=[{"a": None}]))),
            ("mixture", "scores.parquet", as_table(lambda t: t.head(0))),
            ("mixture", "mixture.parquet", as_table(lambda t: t.assign(**odd))),
        ]
    ):
        tags = {name: repo.tags["v1"] for name, repo in standin.store.repos.items()}
        tampered(repository, path, edit)
        folder = tmp_path / f"odd-{number}"
        try:
            study = pull_study("me/small@v1", stages, folder).study
        except RegmixError:
            assert not folder.exists()
        else:
            report.run(study, Silent())
        for name, repo in standin.store.repos.items():
            repo.tags["v1"] = tags[name]
            repo.branches["main"] = tags[name]


@pytest.mark.parametrize(
    ("old", "new", "asked"),
    [
        ("path: my-org/books", "path: /etc", "'/etc'"),
        ("path: my-org/books", "path: ../../secrets", "'../../secrets'"),
        (
            "path: my-org/programs",
            "path: json\n    data_files: https://evil.example/x",
            "https://evil.example/x",
        ),
    ],
)
def test_a_pulled_recipe_that_reads_files_of_this_machine_has_to_be_accepted(
    tampered, stages, tmp_path, recorder, old, new, asked
):
    tampered("runs", "recipe.yaml", swap(old, new))
    study = pull_study("me/small@v1", stages, tmp_path / "pulled", progress=recorder).study
    assert any(asked in note and "--accept-sources" in note for note in recorder.notes)
    with pytest.raises(StudyError, match="reads") as caught:
        prepare.run(study, Silent())
    assert asked in str(caught.value)
    assert "maths.jsonl" in str(caught.value)
    own = {
        name: domain.model_copy(update={"path": "my-org/own", "data_files": None})
        for name, domain in study.recipe.domains.items()
    }
    own["maths"] = own["maths"].model_copy(update={"path": "json", "data_files": str(tmp_path / "my.jsonl")})
    require_accepted(Study(study.recipe.model_copy(update={"domains": own})))

    accepted = pull_study("me/small@v1", stages, tmp_path / "pulled", accept_sources=True).study
    require_accepted(accepted)


def test_runs_that_are_none_are_not_loaded(tampered):
    tampered("runs", "results.parquet", as_table(lambda t: t.assign(**{"weight/code": np.inf})))
    with pytest.raises(HubError, match="'code' is inf"):
        load_published("me/small-runs@v1")


def test_a_regressor_that_does_not_match_its_shape_is_not_loaded(tampered):
    tampered("regressor", "estimator.safetensors", one_row_less)
    with pytest.raises(RegmixError, match="but there are"):
        MixtureRegressor.from_pretrained("me/small-regressor", revision="v1")


def test_names_of_published_runs_do_not_become_paths(tampered, stages, tmp_path):
    names = as_table(lambda t: t.assign(run_id=["../../evil", *t["run_id"][1:]]))
    tampered("runs", "results.parquet", names)
    tampered("runs", "trajectories.parquet", names)
    pulled = pull_study("me/small@v1", stages, tmp_path / "a" / "b" / "c").study
    assert not list(tmp_path.rglob("evil*"))
    assert len(list(pulled.proxies.glob("*/result.json"))) == 27


def test_what_a_published_recipe_says_of_places_does_not_count(tampered, stages, tmp_path):
    tampered("runs", "recipe.yaml", add(f"output_dir: {tmp_path / 'elsewhere'}\nhub: {{namespace: evil}}\n"))
    pulled = pull_study("me/small@v1", stages, tmp_path / "here").study
    assert pulled.root == tmp_path / "here"
    assert not (tmp_path / "elsewhere").exists()
    text = (tmp_path / "here" / "recipe.yaml").read_text()
    assert "evil" not in text
    assert "elsewhere" not in text


def test_a_table_in_json_comes_back_to_the_last_bit():
    table = pd.DataFrame({"a": [0.1 + 0.2, np.nan, -1e-300], "b": ["x", None, "z"], "c": [1, 2, 3]})
    back = read_table_json(table_json(table), "t")
    assert back["a"].tolist()[::2] == [0.1 + 0.2, -1e-300]
    assert np.isnan(back["a"][1])
    assert back["b"].tolist()[::2] == ["x", "z"]
    assert back["c"].tolist() == [1, 2, 3]
