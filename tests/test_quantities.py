"""What the name of a column says of its unit and of which way is better."""

from math import nan

import pytest
from pandas import DataFrame, Series

from regmix_hf.errors import RegressionError
from regmix_hf.quantities import Quantity, fitting, read_name, read_names
from regmix_hf.runs import Runs


@pytest.mark.parametrize(
    ("column", "quantity"),
    [
        ("loss/web", Quantity("web", "nats per token")),
        ("web", Quantity("web", "nats per token")),
        ("bpb/web", Quantity("bpb/web", "bits per byte")),
        ("bpb/arc_easy", Quantity("bpb/arc_easy", "bits per byte")),
        ("hellaswag/acc_norm", Quantity("hellaswag/acc_norm", "share", "higher")),
        ("gsm8k/exact_match,strict-match", Quantity("gsm8k/exact_match,strict-match", "share", "higher")),
        ("wikitext/word_perplexity", Quantity("wikitext/word_perplexity", None)),
        ("hellaswag_bpb", Quantity("hellaswag_bpb", "bits per byte")),
        ("web_ppl", Quantity("web_ppl")),
        ("accuracy_loss", Quantity("accuracy_loss")),
        ("arc/brier_score", Quantity("arc/brier_score")),
        ("anything", Quantity("anything")),
        ("neg_log_likelihood", Quantity("neg_log_likelihood")),
        ("eval/web_loss", Quantity("eval/web_loss")),
        ("val/exam_bpb", Quantity("val/exam_bpb", "bits per byte")),
    ],
)
def test_a_name_says_unit_and_direction(column, quantity):
    assert read_name(column, ["web"]) == quantity
    assert Quantity.from_plain(quantity.plain) == quantity
    assert read_name(quantity.column) == quantity  # as a table of results has it


@pytest.mark.parametrize(
    "column",
    [
        *("acc", "hellaswag_acc", "Accuracy", "squad_f1", "exact_match", "pass@10", "my_score"),
        *("task/invented", "acc0", "acc@5", "mt_bench", "win_rate", "elo"),
        *("nll_accuracy", "arc_ce_acc", "hellaswagAcc", "neg_loss", "eval/negLoss", "minus_ppl"),
    ],
)
def test_a_score_of_unknown_direction_is_a_question_that_shows_how_to_answer(column):
    with pytest.raises(RegressionError) as error:
        read_names(["web", column], ["web"])
    assert f"--maximize {column}" in str(error.value)
    assert "maximize: true" in str(error.value)
    assert read_names([column], given={column: "higher"})[column].sign == -1
    assert read_names([column], given={column: "lower"})[column].sign == 1


def test_values_that_no_loss_has_are_a_question_unless_the_name_answers_it():
    names = ["web", "exam", "exam_loss", "exam_ppl", "bpb/exam"]
    assert list(read_names(names, ["web"])) == names
    with pytest.raises(RegressionError, match="the column 'exam' looks like a score"):
        read_names(names, ["web"], by_value=names[1:])
    with pytest.raises(RegressionError, match="the columns 'web', 'exam' look like scores"):
        read_names(names, ["web"], by_value=names)
    said = {"exam": "lower", "web": "higher"}
    found = read_names(names, ["web"], said, by_value=names)
    assert (found["exam"], found["web"]) == (Quantity("exam"), Quantity("web", None, "higher"))


@pytest.mark.parametrize(
    ("values", "unit"),
    [([0.2, 0.4, nan], "share"), ([20.0, 0.9, nan], "percent"), ([-3.0, 40.0], None), ([2.0, 140.0], None)],
)
def test_an_accuracy_is_in_the_unit_that_holds_its_values(values, unit):
    name, table = "arc/acc", DataFrame({"arc/acc": values})
    assert fitting(read_names([name]), table) == {name: Quantity(name, unit, "higher")}
    runs = Runs(DataFrame({"web": 1.0}, index=table.index), table, Series("fit", index=table.index))
    assert runs.quantities[name].unit == unit


def test_what_a_person_says_comes_before_what_a_name_says():
    said = read_names(["loss/web", "anything"], ["web"], {"anything": "higher", "web": "lower"})
    assert said == {
        "web": Quantity("web", "nats per token"),
        "anything": Quantity("anything", None, "higher"),
    }


def test_all_scores_are_asked_for_at_once_and_a_pattern_answers():
    names = ["arc_acc", "web", "piqa_acc", "squad_f1"]
    with pytest.raises(RegressionError, match="'arc_acc', 'piqa_acc', 'squad_f1' look like") as error:
        read_names(names)
    assert "--maximize arc_acc,piqa_acc,squad_f1 (or" in str(error.value)
    with pytest.raises(RegressionError, match=r"the column 'squad_f1' looks like a score.*no 'squat"):
        read_names(names, given={"*_acc": "higher", "squat*": "higher"})
    signs = {n: q.sign for n, q in read_names(names, given={"*_*": "higher", "arc_acc": "lower"}).items()}
    assert signs == {"arc_acc": 1, "web": 1, "piqa_acc": -1, "squad_f1": -1}
    with pytest.raises(RegressionError, match="'arc_acc' cannot be better when higher"):
        read_names(names, given={"*_acc": "higher", "arc*": "lower"})


def test_a_domain_may_be_called_as_scores_are():
    assert read_names(["em", "f1"], ["em", "f1"])["em"] == Quantity("em", "nats per token")


def test_directions_are_those_of_lm_eval():
    import lm_eval.api.metrics  # noqa: F401 (fills the registry)
    from lm_eval.api.registry import HIGHER_IS_BETTER_REGISTRY

    for metric, is_higher in HIGHER_IS_BETTER_REGISTRY.items():
        assert (read_name(f"task/{metric}").direction == "higher") is is_higher, metric


@pytest.mark.parametrize(
    "found", [{}, {"name": "a", "unit": 3, "direction": "lower"}, {"name": "a", "unit": None}]
)
def test_what_is_no_quantity_is_refused(found):
    with pytest.raises(ValueError, match="no quantity"):
        Quantity.from_plain(found)


def test_values_are_called_losses_only_where_they_are_nats():
    assert [Quantity("web", "nats per token").nouns, Quantity("arc/acc", "share", "higher").nouns] == [
        "losses",
        "values",
    ]
