"""Of a stream is read what the study's runs can need: checked by hand on round numbers."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures.budgets import stamp_budgets, token_budgets
from regmix_hf.plan import make_plan
from regmix_hf.progress import Silent
from regmix_hf.recipe import Recipe
from regmix_hf.stages import prepare
from regmix_hf.study import State, Study
from regmix_hf.study.corpus_facts import CorpusFacts

from ..conftest import Recorder

TOKENS = {"web": 800_000_000, "code": 200_000_000}


@pytest.fixture
def make() -> Callable[..., Recipe]:
    """Domains `web` and `code` as streams; proxies of 10,000 blocks, final runs of 40,000, of 100 tokens."""

    def recipe(
        num_tokens: Mapping[str, int] = TOKENS, streaming: Iterable[str] = TOKENS, **keys: Any
    ) -> Recipe:
        tree = {
            "name": "two",
            "context_length": 100,
            "tokenizer": "none",
            "domains": {
                name: {"path": "json", "streaming": name in streaming, "num_tokens": num_tokens.get(name)}
                for name in TOKENS
            },
            "sampling": {"max_epochs": 1.5},
            "proxy": {"model": {"preset": "tiny"}, "num_train_tokens": 1_000_000},
            "train": {"model": {"preset": "tiny"}, "num_train_tokens": 4_000_000, "mixtures": ["prior"]},
        }
        for key, value in keys.items():
            tree[key] = {**tree[key], **value} if isinstance(tree.get(key), dict) else value
        return Recipe.model_validate(tree)

    return recipe


def blocks(weight: float, number: int) -> float:
    return number * weight + 8 * (number * weight * (1 - weight)) ** 0.5 + 16


def test_a_budget_is_the_largest_weight_of_any_run_with_room_for_chance(make: Callable[..., Recipe]) -> None:
    budgets = token_budgets(make())
    assert budgets is not None
    # The prior is .8 and .2. Proxies may have 1.5 times of it, at most all; the final run has the prior.
    assert budgets["web"] == pytest.approx(100 * max(blocks(1.0, 10_000), blocks(0.8, 40_000)), abs=100)
    assert budgets["code"] == pytest.approx(100 * max(blocks(0.3, 10_000), blocks(0.2, 40_000)), abs=100)
    assert all(budget % 100 == 0 for budget in budgets.values())


def test_final_runs_from_the_stream_need_nothing(make: Callable[..., Recipe]) -> None:
    budgets = token_budgets(make(train={"streaming": True}))
    assert budgets is not None
    assert budgets["web"] == pytest.approx(100 * blocks(1.0, 10_000), abs=100)
    assert budgets["code"] == pytest.approx(100 * blocks(0.3, 10_000), abs=100)


def test_baselines_are_taken_exactly_and_the_chosen_one_at_its_bounds(make: Callable[..., Recipe]) -> None:
    only = make(train={"mixtures": ["code_only"]}, baselines={"code_only": {"code": 3.0}})
    budgets = token_budgets(only)
    assert budgets is not None
    assert budgets["code"] == pytest.approx(100 * blocks(1.0, 40_000), abs=100)
    chosen = token_budgets(make(train={"mixtures": ["chosen"]}, choice={"max": {"code": 0.25}}))
    assert chosen is not None
    assert chosen["code"] == pytest.approx(100 * blocks(0.25, 40_000), abs=100)
    bounded_by_the_swarm = token_budgets(make(train={"mixtures": ["chosen"]}))
    assert bounded_by_the_swarm is not None
    assert bounded_by_the_swarm["code"] == pytest.approx(100 * blocks(0.3, 40_000), abs=100)


def test_all_is_counted_unless_every_domain_says_what_it_has(make: Callable[..., Recipe]) -> None:
    assert token_budgets(make({"web": 800_000_000})) is None


def test_domains_that_do_not_stream_or_have_less_are_read_to_their_ends(make: Callable[..., Recipe]) -> None:
    assert set(token_budgets(make(streaming=["code"])) or {}) == {"code"}
    assert token_budgets(make({"web": 800_000, "code": 200_000})) == {}


def test_larger_swarm_needs_no_other_text(make: Callable[..., Recipe]) -> None:
    small, large = make(sampling={"num_mixtures": 16}), make(sampling={"num_mixtures": 512})
    assert stamp_budgets(small) == stamp_budgets(large) != {}
    assert stamp_budgets(small) != stamp_budgets(make(train={"num_train_tokens": 8_000_000}))


def test_without_a_budget_nothing_is_stamped(make: Callable[..., Recipe]) -> None:
    assert stamp_budgets(make(streaming=[])) == stamp_budgets(make({})) == {}


def test_bounds_that_leave_no_mixture_are_said_by_prepare_and_not_by_status(
    make: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make(sampling={"max": {"web": 0.2, "code": 0.2}}, output_dir=str(tmp_path / "study"))
    assert Study(recipe).state(prepare.STAGE) is State.MISSING
    assert stamp_budgets(recipe)
    with pytest.raises(MixtureError, match="sampling"):
        token_budgets(recipe)


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """A study of two domains of 20,000 tokens, which says that they have a thousand times more."""
    for name in TOKENS:
        lines = (f'{{"text": "{name} {i} {"word " * 8}"}}\n' for i in range(400))
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))

    def make(train_tokens: int = 3200, **train: Any) -> Study:
        run = {"model": {"preset": "tiny"}, "num_train_tokens": 1600}
        tree = {
            "name": "two",
            "output_dir": str(tmp_path / "study"),
            "context_length": 16,
            "tokenizer": {"train": {"vocab_size": 257}},
            "corpus": {"num_proc": 1, "validation_fraction": 0.2},
            "domains": {
                name: {
                    "path": "json",
                    "data_files": str(tmp_path / f"{name}.jsonl"),
                    "streaming": True,
                    "num_tokens": count,
                }
                for name, count in TOKENS.items()
            },
            "sampling": {"max": {"code": 0.5}},
            "proxy": run,
            "train": {**run, "num_train_tokens": train_tokens, "mixtures": ["uniform"], **train},
            "executor": {"gpu": "h200"},  # then plans measure no speed
        }
        return Study(Recipe.model_validate(tree))

    return make


def test_prepare_reads_the_budget_and_says_so(study: Callable[..., Study]) -> None:
    budgets, notes = token_budgets(study().recipe), Recorder()
    assert budgets is not None
    plan = make_plan(study())
    assert plan.stages[0].tokens == sum(budgets.values())
    assert any("of the 1B tokens of 2 streams" in note for note in plan.notes)
    prepare.run(study(), notes)
    facts = CorpusFacts.load(study().corpus)
    for name, budget in budgets.items():
        train = facts.domains[name].train
        assert train is not None
        assert budget <= train.num_tokens < budget + 60  # with the document that reaches it
        assert facts.domains[name].part_of == TOKENS[name]
    assert any("of web, code as much was read" in note for note in notes.notes)
    assert facts.available_tokens(study().recipe) == TOKENS
    assert make_plan(study()).stages[0].tokens == 0


def test_another_budget_makes_the_corpus_stale_by_name(study: Callable[..., Study]) -> None:
    prepare.run(study(), Silent())
    assert study().state(prepare.STAGE) is State.DONE
    longer = study(train_tokens=6400)
    assert longer.state(prepare.STAGE) is State.STALE
    assert longer.changes(prepare.STAGE) == ["tokens to read"]
    before = CorpusFacts.load(longer.corpus)
    prepare.run(longer, Silent())
    after = CorpusFacts.load(longer.corpus)
    for name in TOKENS:
        old, new = before.domains[name].train, after.domains[name].train
        assert old is not None
        assert new is not None
        assert new.num_tokens > old.num_tokens
    assert before.fingerprint != after.fingerprint


def test_source_that_ends_before_its_budget_is_told_from_one_that_does_not(
    study: Callable[..., Study],
) -> None:
    long = study(train_tokens=100_000)
    prepare.run(long, Silent())
    facts = CorpusFacts.load(long.corpus)
    assert [domain.part_of for domain in facts.domains.values()] == [None, None]
    counts = [domain.train.num_documents for domain in facts.domains.values() if domain.train]
    assert all(count > 250 for count in counts)


def test_what_the_source_has_is_no_part_of_the_fingerprint(study: Callable[..., Study]) -> None:
    prepare.run(study(), Silent())
    facts = CorpusFacts.load(study().corpus)
    whole = {name: domain.model_copy(update={"part_of": None}) for name, domain in facts.domains.items()}
    assert facts.model_copy(update={"domains": whole}).fingerprint == facts.fingerprint
    assert "part_of" not in str(facts.model_copy(update={"domains": whole}).model_dump(exclude_defaults=True))
