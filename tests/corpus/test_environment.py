"""The built-in source: the same text from the same environment, of really different kinds, within a bound."""

import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regmix_hf.corpus.environment import files, prose, source
from regmix_hf.corpus.environment.arithmetic import arithmetic
from regmix_hf.corpus.environment.kinds import KINDS
from regmix_hf.corpus.environment.source import MAX_DOCUMENT_BYTES, EnvironmentSource
from regmix_hf.corpus.opening import open_source
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.errors import DataError
from regmix_hf.recipe import Domain, Recipe

pytestmark = pytest.mark.long


def forget_files() -> None:
    files._walk.cache_clear()
    files.paths.cache_clear()


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small environment in place of the real one: `stdlib`, `site-packages` and `include`."""
    folders = {
        "stdlib": "stdlib",
        "purelib": "site-packages",
        "platlib": "site-packages",
        "include": "include",
    }
    for folder in folders.values():
        (tmp_path / "env" / folder).mkdir(parents=True, exist_ok=True)

    def get_path(name: str) -> str | None:
        return str(tmp_path / "env" / folders[name]) if name in folders else None

    monkeypatch.setattr(sysconfig, "get_path", get_path)
    forget_files()
    yield tmp_path / "env"
    forget_files()


def write(file: Path, content: str | bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def documents(kind: str) -> list[str]:
    opened = EnvironmentSource("a", Domain(path="python_environment", name=kind))
    return [text for piece in opened.pieces(None) for text in piece.texts]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_kind_of_the_real_environment_is_bounded_and_repeats(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_DOMAIN_BYTES", 200_000)  # a whole domain takes seconds
    if kind == "c_headers" and not any(files.texts(files.everything(), ".h")):
        pytest.skip("this environment has no C headers")
    texts = documents(kind)
    assert texts == documents(kind)
    assert len(set(texts)) == len(texts) > 5
    sizes = [len(text.encode()) for text in texts]
    assert max(sizes) <= MAX_DOCUMENT_BYTES
    assert sum(sizes[:-1]) < 200_000 <= sum(sizes)


def test_the_language_reference_is_in_no_other_kind() -> None:
    topics = documents("language_reference")
    assert any("augmented assignment" in topic.lower() for topic in topics)
    assert not any("pydoc_data" in path.parts for path in files.paths(files.everything()))


def test_standard_library_is_source_without_packages_and_tests(environment: Path) -> None:
    write(environment / "stdlib" / "json" / "decoder.py", "decoder = 1")
    write(environment / "stdlib" / "test" / "test_json.py", "test = 1")
    write(environment / "stdlib" / "site-packages" / "numpy.py", "numpy = 1")
    write(environment / "stdlib" / "__pycache__" / "x.py", "cached = 1")
    write(environment / "site-packages" / "torch.py", "torch = 1")
    assert documents("standard_library") == ["decoder = 1"]
    assert documents("installed_packages") == ["torch = 1"]


def test_own_package_and_its_metadata_are_left_out(environment: Path) -> None:
    write(environment / "site-packages" / "regmix_hf" / "errors.py", "own = 1")
    write(environment / "site-packages" / "regmix_hf-1.0.dist-info" / "METADATA", "Name: regmix_hf\n\nown")
    write(environment / "site-packages" / "_editable_impl_regmix_hf.py", "own = 2")
    write(
        environment / "site-packages" / "other-1.0.dist-info" / "METADATA",
        "Name: other\n\n# Other\n\nText.\n",
    )
    write(environment / "site-packages" / "other.py", "other = 1")
    assert documents("installed_packages") == ["other = 1"]
    assert documents("package_readmes") == ["# Other\n\nText."]


def test_links_out_of_the_environment_are_left_out(environment: Path, tmp_path: Path) -> None:
    write(tmp_path / "secret" / "key.py", "secret = 1")
    write(environment / "stdlib" / "real.py", "real = 1")
    packages = environment / "site-packages"
    (packages / "key.py").symlink_to(tmp_path / "secret" / "key.py")
    (packages / "folder").symlink_to(tmp_path / "secret")
    (packages / "dangling.py").symlink_to(packages / "gone.py")
    (packages / "inside.py").symlink_to(environment / "stdlib" / "real.py")
    assert documents("installed_packages") == ["real = 1"]


def test_binary_and_foreign_files_are_left_out_and_copies_merged(environment: Path) -> None:
    packages = environment / "site-packages"
    write(packages / "a" / "LICENSE", "Do what you want.\n")
    write(packages / "b" / "LICENSE.txt", "\nDo what you want.")
    write(packages / "c-1.dist-info" / "licenses" / "Apache-2.0.txt", "Apache")
    write(packages / "d" / "COPYING", b"caf\xe9")
    write(packages / "e" / "NOTICE", b"binary\0")
    write(packages / "f" / "LICENSE", "   \n")
    assert sorted(documents("licenses")) == ["Apache", "Do what you want."]


def test_long_files_are_cut_at_the_end_of_a_line(environment: Path) -> None:
    line = "é" * 499 + "\n"  # 999 bytes
    write(environment / "site-packages" / "a.py", line * (MAX_DOCUMENT_BYTES // 999 + 5))
    write(environment / "site-packages" / "b.py", "x" * (MAX_DOCUMENT_BYTES + 1))
    assert documents("installed_packages") == [(line * (MAX_DOCUMENT_BYTES // 999)).strip()]


def test_docstrings_are_prose_of_modules_classes_and_functions(environment: Path) -> None:
    text = "Explains at length what this is for. " * 10
    code = (
        f'"""Module. {text}"""\n'
        f'class A:\n    """Class. {text}\n\n    More.\n    """\n'
        '    def f(self):\n        """Short."""\n'
    )
    write(environment / "site-packages" / "a.py", code)
    write(environment / "site-packages" / "broken.py", f'"""{text}"""\ndef (')
    assert documents("docstrings") == [f"Module. {text}".strip(), f"Class. {text}\n\nMore."]


def test_description_in_the_head_of_metadata_is_read(environment: Path) -> None:
    head = "Name: old\nDescription: # Old\n        \n        Indented text.\n"
    write(environment / "site-packages" / "old-1.dist-info" / "METADATA", head)
    assert documents("package_readmes") == ["# Old\n\nIndented text."]
    assert list(prose.package_readmes()) == ["# Old\n\nIndented text."]


def test_any_beginning_is_spread_over_packages(environment: Path) -> None:
    for package in range(20):
        for module in range(20):
            write(environment / "site-packages" / f"p{package:02}" / f"m{module}.py", f"x = {package}")
    order = [path.parent.name for path in files.paths(files.installed_packages())]
    assert len(set(order[:40])) > 12
    write(environment / "site-packages" / "new.py", "new = 1")
    forget_files()
    again = [path.parent.name for path in files.paths(files.installed_packages())]
    again.remove("site-packages")
    assert again == order


def test_what_an_environment_lacks_is_said(environment: Path) -> None:
    with pytest.raises(DataError, match="domain 'a': this Python environment holds no c_headers"):
        documents("c_headers")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "licences"}, "has no text called 'licences'"),
        ({}, "has no text called None"),
        ({"name": "yaml", "data_files": "a"}, "does not take the key 'data_files'"),
        ({"name": "yaml", "validation_split": "test"}, "does not take the key 'validation_split'"),
        ({"name": "yaml", "filter": {"a": "b"}}, "does not take the key 'filter'"),
    ],
)
def test_wrong_keys(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source("a", Domain(path="python_environment", **keys), "train")


def test_misspelt_kind_gets_a_suggestion() -> None:
    with pytest.raises(DataError) as caught:
        open_source("a", Domain(path="python_environment", name="licences"), "train")
    assert caught.value.hint == "set its `name`; did you mean 'licenses'?"


def test_arithmetic_answers_are_right() -> None:
    checked = 0
    for document in (text for text, _ in zip(arithmetic(), range(400), strict=False)):
        lines = document.split("\n")
        for question, answer in zip(lines[::2], lines[1::2], strict=True):
            words = question.rstrip(".?").split()
            if question.startswith("Subtract"):
                assert int(words[3]) - int(words[1]) == int(answer)
            elif question.startswith("Round"):
                number, unit = int(words[1]), int(words[-1])
                assert int(answer) % unit == 0
                assert abs(int(answer) - number) * 2 <= unit
            elif question.startswith("Solve") and "," not in question:
                left, right = question.removeprefix("Solve ").split(" for ")[0].split(" = ")
                assert eval(left, {}, {words[-1]: int(answer)}) == int(right)
            elif question.startswith("Solve"):
                first, second = question.removeprefix("Solve ").split(" for ")[0].split(", ")
                a, b = (int(part.split("*")[0]) for part in first.split(" = ")[0].split(" + "))
                c, d = (int(part.split("*")[0]) for part in second.split(" = ")[0].split(" + "))
                e, f = int(first.split(" = ")[1]), int(second.split(" = ")[1])
                assert a * d != b * c
                assert int(answer) * (a * d - b * c) == e * d - b * f
            elif "(base 10) in base" in question:
                assert int(answer, int(words[-1])) == int(words[2])
            elif question.startswith("Let "):
                body, value = question.split(" = ")[1].split(". What is ")
                name = question[6]
                x = int(value.split("(")[1].split(")")[0])
                assert eval(body, {}, {name: x}) == int(answer)
            elif question.startswith("Sort"):
                assert sorted(answer.split(", ")) == sorted(question[5:].split(" in ")[0].split(", "))
            else:
                continue
            checked += 1
    assert checked > 1000


def test_environment_is_prepared_like_any_source(
    tmp_path: Path, make_recipe: Callable[..., Recipe], environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_DOMAIN_BYTES", 200_000)
    for number in range(30):
        write(environment / "site-packages" / f"p{number}.py", f"value = {number}  # a line of Python\n" * 3)
    domains = {
        "code": {"path": "python_environment", "name": "installed_packages"},
        "arithmetic": {"path": "python_environment", "name": "arithmetic", "validation_only": True},
    }
    facts = prepare_corpus(make_recipe(domains), tmp_path / "corpus").domains
    assert facts["code"].train is not None
    assert facts["code"].train.num_documents + facts["code"].validation.num_documents == 30
    assert facts["arithmetic"].train is None
