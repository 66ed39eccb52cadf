"""Losses of one model over the whole validation sets, as they are measured while it trains."""

from __future__ import annotations

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.evaluation.model import LanguageModel, Score, finite

#: The task's name in the table of scores.
VALIDATION = "validation"


def score_validation(model: LanguageModel, corpus: Corpus) -> list[Score]:
    """Measure `loss` (nats per token) and `bits_per_byte` of every domain, over all its validation blocks.

    Differs a little from lm-eval's `bits_per_byte` on the same documents: there every document begins with a
    fresh context and its EOS is not predicted; here documents are packed into blocks, as in training.
    """
    from accelerate import Accelerator
    from transformers import AutoModelForCausalLM

    from regmix_hf.training.examinee import Examinee
    from regmix_hf.training.loss_head import score_in_parts
    from regmix_hf.training.losses import ValidationSet

    network = AutoModelForCausalLM.from_pretrained(model.folder, trust_remote_code=False).to(model.device)
    score_in_parts(network)
    accelerator = Accelerator(cpu=model.device == "cpu")
    losses = ValidationSet(corpus).losses(Examinee(network, accelerator, model.batch_size))
    scores = []
    for domain, loss in losses.items():
        facts = corpus.facts.domains[domain].validation
        bits = loss.bits_per_byte(facts.tokens_per_byte)
        measured = {"loss": (loss.mean, loss.stderr), "bits_per_byte": (bits, loss.stderr * bits / loss.mean)}
        scores += [
            Score(
                task=VALIDATION,
                domain=domain,
                num_fewshot=0,
                metric=metric,
                value=finite(value),
                stderr=finite(stderr),
                num_samples=facts.num_blocks,
                higher_is_better=False,
            )
            for metric, (value, stderr) in measured.items()
        ]
    return scores
