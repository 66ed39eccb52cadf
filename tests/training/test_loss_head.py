"""The loss in parts: the same numbers and gradients as from all logits, whatever the model."""

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from regmix_hf.training import loss_head, odds
from regmix_hf.training.loss_head import LossHead, score_in_parts, tokens_at_once
from regmix_hf.training.models import build_config, build_model
from regmix_hf.training.presets import PRESETS

pytestmark = pytest.mark.long

VOCAB, CONTEXT = 61, 12
SHAPE = {
    **PRESETS["tiny"],
    "vocab_size": VOCAB,
    "max_position_embeddings": CONTEXT,
    "hidden_size": 16,
    "intermediate_size": 24,
}


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 5 tokens, compiled or not: neither whole blocks, nor a divisor of anything."""
    monkeypatch.setattr(loss_head, "LOGITS_AT_ONCE", 5 * VOCAB)
    monkeypatch.setattr(loss_head, "_COMPILED_FACTOR", 1)
    monkeypatch.setattr(loss_head, "_TOKENS_MULTIPLE", 1)


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(0)
    input_ids = torch.randint(0, VOCAB, (3, CONTEXT), generator=rng)
    labels = input_ids.clone()
    labels[:, 0] = -100
    labels[2] = -100
    labels[0, 5] = -100
    return {"input_ids": input_ids, "labels": labels}


def pair(*, backend=None, **keys):
    """The same model twice: as it is, and scored in parts."""
    config = build_config({**SHAPE, **keys}, CONTEXT)
    plain, parted = build_model(config, 0), build_model(config, 0)
    score_in_parts(parted, backend=backend)
    return plain, parted


def same_gradients(plain, parted, **tolerance):
    expected = dict(plain.named_parameters())
    assert expected.keys() == dict(parted.named_parameters()).keys()
    for name, parameter in parted.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, msg=name, **tolerance)


@pytest.mark.parametrize("items", [None, 7, torch.tensor(50)], ids=["mean", "int", "tensor"])
@pytest.mark.parametrize("tied", [False, True])
def test_loss_and_gradients_are_those_of_all_logits(small_parts, batch, items, tied):
    plain, parted = pair(tie_word_embeddings=tied)
    kwargs = {} if items is None else {"num_items_in_batch": items}
    outputs = [model(**batch, **kwargs) for model in (plain, parted)]
    torch.testing.assert_close(outputs[1].loss, outputs[0].loss)
    assert outputs[1].logits is None
    for output in outputs:
        (3 * output.loss).backward()
    same_gradients(plain, parted)
    assert (parted.lm_head.weight is parted.model.embed_tokens.weight) == tied


def test_under_autocast_it_multiplies_in_bf16_as_the_model_would(small_parts, batch):
    plain, parted = pair()
    for model in (plain, parted):
        with torch.autocast("cpu", torch.bfloat16):
            model.loss = model(**batch, num_items_in_batch=20).loss
        assert model.loss.dtype == torch.float32
        model.loss.backward()
    torch.testing.assert_close(parted.loss, plain.loss, rtol=1e-2, atol=0)
    same_gradients(plain, parted, rtol=0.05, atol=2e-3)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = parted.model(batch["input_ids"])[0]
        summed = parted.lm_head(hidden, batch["labels"], "sum")
    exact = parted.lm_head(hidden.float(), batch["labels"], "sum")
    assert 0 < abs(summed - exact) < 0.02 * exact


def test_gradients_are_right_to_the_last_digits_of_float64():
    torch.manual_seed(0)
    head = LossHead.around(torch.nn.Linear(4, 11).double())
    hidden = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, -100, 10], [0, 0, 7]])
    summed = head(hidden, labels, "sum")
    expected = functional.cross_entropy(head(hidden).flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(summed.double(), expected, rtol=1e-6, atol=0)
    inputs = (hidden, head.weight, head.bias)
    grads, wanted = torch.autograd.grad(summed, inputs), torch.autograd.grad(expected, inputs)
    for grad, want in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own doing
@pytest.mark.parametrize("backend", [None, "aot_eager"], ids=["plain", "compiled"])
def test_the_loss_of_every_token(small_parts, batch, backend):
    plain, parted = pair(backend=backend)
    losses = parted(**batch, reduction="none").loss
    logits = plain(batch["input_ids"]).logits
    targets = functional.pad(batch["labels"], (0, 1), value=-100)[:, 1:]
    expected = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    torch.testing.assert_close(losses, expected)
    assert (losses[2] == 0).all()
    assert not losses.requires_grad


def test_a_few_logits_are_made_as_ever(batch):
    plain, parted = pair()
    assert torch.equal(parted(**batch).loss, plain(**batch).loss)
    assert torch.equal(parted(**batch).logits, plain(**batch).logits)
    assert torch.equal(parted(batch["input_ids"]).logits, plain(batch["input_ids"]).logits)


def test_never_more_logits_than_the_limit_are_alive(small_parts, batch, monkeypatch):
    sizes = []
    real = loss_head._loss_and_gradient

    def watched(logits, labels):
        sizes.append(logits.numel())
        return real(logits, labels)

    monkeypatch.setattr(loss_head, "_loss_and_gradient", watched)
    _, parted = pair()
    parted(**batch).loss.backward()
    assert sum(sizes) == 3 * CONTEXT * VOCAB
    assert max(sizes) <= loss_head.LOGITS_AT_ONCE


@pytest.mark.parametrize(
    ("tokens", "vocab", "expected"),
    [(100, 100, 100), (64 * 2048, 50_432, 5248), (2048, 1 << 28, 128), (1 << 28, 1, 1 << 28)],
)
def test_the_size_of_a_part(tokens, vocab, expected):
    assert tokens_at_once(tokens, vocab) == expected
    assert expected == 128 or expected * vocab <= loss_head.LOGITS_AT_ONCE
    if tokens > expected > 128:
        compiled = tokens_at_once(tokens, vocab, compiled=True)
        assert expected < compiled <= 4 * loss_head.LOGITS_AT_ONCE // vocab


@pytest.fixture
def by_odds(small_parts, monkeypatch):
    """Losses in bf16 by odds, as on a GPU that has the kernel."""
    monkeypatch.setattr(odds, "fits", lambda weight, bias: bias is None)


def errors(grads, exact):
    return [float((grad - want).norm() / want.norm()) for grad, want in zip(grads, exact, strict=True)]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own doing
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_by_odds_gradients_are_those_of_float32_but_for_the_rounding_of_bf16(by_odds, compiled):
    torch.manual_seed(0)
    head = LossHead.around(torch.nn.Linear(16, 64, bias=False))
    hidden = torch.randn(3, 7, 16, requires_grad=True)
    labels = torch.randint(0, 64, (3, 7))
    labels[0, 1] = labels[2] = -100
    inputs = (hidden, head.weight)
    exact = functional.cross_entropy(head(hidden).flatten(0, 1), labels.flatten(), reduction="sum")

    def loss_of(hidden):
        with torch.autocast("cpu", torch.bfloat16):
            return 3 * head(hidden, labels, "sum")

    torch._dynamo.reset()
    loss = (torch.compile(loss_of, fullgraph=True, backend="aot_eager") if compiled else loss_of)(hidden)
    assert float(loss.detach()) == pytest.approx(3 * float(exact.detach()), rel=1e-3)
    grads, wanted = torch.autograd.grad(loss, inputs), torch.autograd.grad(3 * exact, inputs)
    assert max(errors(grads, wanted)) < 5e-3
    assert torch.equal(grads[0][2], torch.zeros(7, 16))
    assert not torch.equal(grads[1], wanted[1])


def test_by_odds_losses_are_those_of_the_logits(by_odds):
    torch.manual_seed(0)
    head = LossHead.around(torch.nn.Linear(16, 64, bias=False).bfloat16())
    hidden, labels = torch.randn(21, 16).bfloat16(), torch.randint(0, 64, (21,))
    labels[3] = -100
    with torch.no_grad():
        head.weight *= 20
        logits = hidden.double() @ head.weight.double().T
        losses = head(hidden, labels)
        expected = functional.cross_entropy(logits, labels, reduction="none")
        torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
        head.weight *= 100
        far = head(hidden, labels)
        assert odds.HIGHEST - 1 < far.max() < odds.HIGHEST + 5  # as far as bf16 goes, and no further
        hidden[5] = torch.nan
        assert head(hidden, labels).isnan().tolist() == [place == 5 for place in range(21)]


@pytest.mark.skipif(
    not (torch.cuda.is_available() and odds.fits(torch.empty(8, 8, device="cuda"), None)),
    reason="the kernel is for Hopper",
)
@pytest.mark.parametrize(("tokens", "words", "width"), [(1000, 50_432, 256), (130, 304, 72), (257, 8, 8)])
def test_the_kernel_computes_the_same_odds(tokens, words, width):
    torch.manual_seed(0)
    rows, weight = (torch.randn(count, width, device="cuda").bfloat16() for count in (tokens, words))
    rows[1], rows[2] = torch.nan, 20 * rows[2]  # odds of the latter are at their highest
    places = torch.randint(0, words, (tokens,), device="cuda")
    chosen = loss_head._chosen(rows, weight, places)
    found, sums = odds.odds_and_sums(rows, weight, chosen, places)
    plain = [value.cpu() for value in (rows, weight, chosen, places)]
    expected, totals = odds.odds_and_sums(*plain)
    torch.testing.assert_close(sums.cpu(), totals, rtol=1e-3, atol=0, equal_nan=True)
    torch.testing.assert_close(found.cpu().float(), expected.float(), rtol=2e-2, atol=1e-30, equal_nan=True)
    assert torch.equal(odds.sums_of_odds(rows, weight, chosen).nan_to_num(), sums.nan_to_num())


TINY = {"vocab_size": VOCAB, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
OTHERS = {
    "gpt2": {"vocab_size": VOCAB, "n_embd": 16, "n_layer": 1, "n_head": 2},
    "gpt_neox": {**TINY, "intermediate_size": 24},
    "qwen3": {**TINY, "intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 8},
    "opt": {**TINY, "ffn_dim": 24, "word_embed_proj_dim": 8},
    "olmo2": {**TINY, "intermediate_size": 24, "num_key_value_heads": 2},
}
CAPPED = {
    "gemma2": {**TINY, "intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 8},
    "granite": {**TINY, "intermediate_size": 24, "num_key_value_heads": 2, "logits_scaling": 4.0},
}


@pytest.mark.parametrize(("model_type", "keys"), [*OTHERS.items(), *CAPPED.items()])
def test_any_causal_model_gets_the_same_losses(small_parts, batch, model_type, keys):
    model = build_model(build_config({"model_type": model_type, **keys}, CONTEXT), 0).eval()
    plain = model(**batch, num_items_in_batch=9).loss
    logits = model(batch["input_ids"]).logits
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    score_in_parts(model)
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())
    assert isinstance(model.get_output_embeddings(), LossHead) == (model_type in OTHERS)
    torch.testing.assert_close(model(**batch, num_items_in_batch=9).loss, plain)
    losses = model(**batch, reduction="none").loss
    expected = functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], reduction="none"
    )
    torch.testing.assert_close(losses[:, :-1], expected)


def test_left_to_the_model_the_loss_is_its_own(small_parts, batch):
    config = build_config(SHAPE, CONTEXT)
    model = build_model(config, 0)
    score_in_parts(model, train=False)
    assert model(**batch).logits is not None
    assert model(**batch, reduction="none").loss.shape == batch["labels"].shape


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own doing
def test_compiled_it_is_one_graph_with_the_same_gradients(small_parts, batch):
    plain, parted = pair()
    torch._dynamo.reset()
    compiled = torch.compile(parted, fullgraph=True, backend="aot_eager")
    loss = compiled(**batch, num_items_in_batch=torch.tensor(20)).loss
    expected = plain(**batch, num_items_in_batch=20).loss
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    same_gradients(plain, parted)


def test_a_saved_model_loads_as_any_other(small_parts, batch, tmp_path):
    plain, parted = pair()
    parted.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).logits, plain(**batch).logits)
