"""What makes a run fast changes nothing it ends with: precision, compilation, workers, and no waiting."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from regmix_hf.training import loss_head
from regmix_hf.training.models import CAUSAL_SDPA, build_config, build_model
from regmix_hf.training.presets import PRESETS
from regmix_hf.training.run import train_run

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def plain(spec, corpus, tmp_path_factory):
    return train_run(spec, corpus, tmp_path_factory.mktemp("plain"))


@pytest.fixture
def in_parts(monkeypatch):
    """Scores every batch in parts of 20 tokens."""
    monkeypatch.setattr(loss_head, "LOGITS_AT_ONCE", 20 * 48)
    monkeypatch.setattr(loss_head, "_TOKENS_MULTIPLE", 1)


def losses(row):
    return {name: value for name, value in row.items() if name.startswith("loss/")}


@pytest.mark.parametrize("per_device", [4, 2])
def test_losses_in_parts_train_the_same_model(
    spec, corpus, plain, with_arguments, in_parts, tmp_path, per_device
):
    row = train_run(with_arguments(spec, per_device_train_batch_size=per_device), corpus, tmp_path)
    assert losses(row) == pytest.approx(losses(plain), rel=1e-5)
    assert losses(row) != losses(plain)


def test_bf16_trains_nearly_the_same_model_under_another_name(
    spec, corpus, plain, with_arguments, in_parts, tmp_path
):
    low = with_arguments(spec, bf16=True)
    row = train_run(low, corpus, tmp_path)
    assert losses(row) == pytest.approx(losses(plain), rel=2e-2)
    assert losses(row) != losses(plain)
    assert low.run_id != spec.run_id


def test_workers_that_read_ahead_keep_the_order(spec, corpus, plain, with_arguments, tmp_path, outcome):
    reading = with_arguments(
        spec, dataloader_num_workers=2, dataloader_prefetch_factor=4, per_device_train_batch_size=2
    )
    alone = train_run(with_arguments(spec, per_device_train_batch_size=2), corpus, tmp_path / "alone")
    assert outcome(train_run(reading, corpus, tmp_path / "ahead")) == outcome(alone)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own doing
@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
def test_compiled_it_is_one_graph_however_many_steps_and_runs_there_are(
    spec, corpus, plain, with_arguments, tmp_path, monkeypatch, request, parts
):
    if parts:
        request.getfixturevalue("in_parts")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")  # what `TrainingArguments` sets is gone afterwards
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = with_arguments(spec, torch_compile=True, torch_compile_backend="aot_eager")
    row = train_run(compiled, corpus, tmp_path / "first")
    counters = torch._dynamo.utils.counters
    assert counters["graph_break"] == Counter()
    graphs = counters["stats"]["unique_graphs"]
    assert graphs <= 3  # of training one; of scoring one, and one for what is left of a batch
    assert compiled.run_id == spec.run_id
    assert losses(row) == pytest.approx(losses(plain), rel=1e-4)
    # A worker trains many proxies, each a model of its own.
    again = train_run(replace(compiled, seed=12), corpus, tmp_path / "again")
    assert counters["stats"]["unique_graphs"] == graphs
    alone = train_run(replace(spec, seed=12), corpus, tmp_path / "alone")
    assert losses(again) == pytest.approx(losses(alone), rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own doing
def test_under_autocast_it_is_compiled_however_many_runs_there_are(
    spec, corpus, with_arguments, tmp_path, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")  # what `TrainingArguments` sets is gone afterwards
    # What is counted is dynamo's; what a backend makes of each graph takes most of the time.
    compiled = with_arguments(spec, bf16=True, torch_compile=True, torch_compile_backend="eager")
    short = replace(compiled, num_train_tokens=2 * spec.num_batch_tokens, num_evaluations=1)
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        for seed in range(3):
            assert train_run(replace(short, seed=seed), corpus, tmp_path / str(seed))["status"] == "ok"


class _Waits(TorchDispatchMode):
    """Counts how often a tensor's value is fetched, for which a GPU would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device(spec, corpus, tmp_path):
    counts = {}
    for num_steps in (32, 64):
        run = replace(spec, num_train_tokens=num_steps * spec.num_batch_tokens, num_evaluations=1)
        with _Waits() as waits:
            train_run(run, corpus, tmp_path / str(num_steps))
        counts[num_steps] = waits.count
    assert counts[32] > 0
    assert counts[64] - counts[32] <= 2  # one look at divergence in 16 steps


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_use_fused_attention(preset):
    shape = {**PRESETS[preset], "vocab_size": 100, "max_position_embeddings": 32}
    with torch.device("meta"):
        model = build_model(build_config(shape, 32), 0)
    assert model.config._attn_implementation == CAUSAL_SDPA


def masks_of_attention(model, input_ids):
    """Compile a model; return what each attention in it is told: its mask, and whether it is causal."""
    told = []

    def backend(graph, example_inputs):
        for node in graph.graph.nodes:
            if node.target is torch.nn.functional.scaled_dot_product_attention:
                told.append((node.kwargs["attn_mask"], node.kwargs["is_causal"]))
        return graph.forward

    torch._dynamo.reset()
    torch.compile(model, backend=backend)(input_ids=input_ids)
    return told


def test_compiled_attention_takes_no_mask(spec, corpus):
    model = build_model(build_config(spec.model, spec.context_length), 0)
    model.config.use_cache = False  # as in training
    input_ids = torch.tensor(corpus.blocks("ones", "validation")["input_ids"][:3])
    assert masks_of_attention(model, input_ids) == [(None, True)]
    with torch.no_grad():
        causal = model(input_ids).logits
        model.set_attn_implementation("sdpa")
        torch.testing.assert_close(causal, model(input_ids).logits)
        assert masks_of_attention(model, input_ids)[0][0] is not None


def test_attention_within_a_window_keeps_its_mask(spec):
    keys = {"model_type": "mistral", "sliding_window": 4, "num_key_value_heads": 2}
    shape = {key: value for key, value in spec.model.items() if not key.endswith("_bias")}
    model = build_model(build_config({**shape, **keys}, spec.context_length), 0)
    assert model.config._attn_implementation == "sdpa"


def test_another_kernel_of_attention_is_the_same_run(spec, corpus, plain, tmp_path):
    eager = replace(spec, model={**spec.model, "attn_implementation": "eager"})
    assert eager.run_id == spec.run_id
    assert losses(train_run(eager, corpus, tmp_path)) == pytest.approx(losses(plain), rel=1e-4)
