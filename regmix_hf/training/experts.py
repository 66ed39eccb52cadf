"""What stays of an expert when its run ends: how probable each token of every target is to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from regmix_hf.quantities import BPB
from regmix_hf.runs.experts import Experts, TargetText

if TYPE_CHECKING:
    from regmix_hf.study.corpus_facts import CorpusFacts
    from regmix_hf.training.asked import Asked
    from regmix_hf.training.examinee import Examinee
    from regmix_hf.training.losses import ValidationSet
    from regmix_hf.training.spec import RunSpec

#: Half precision has no more nats.
_LEAST = float(np.finfo(np.float16).min)


def expert_of(
    spec: RunSpec,
    of: Examinee,
    validation: ValidationSet | None,
    questions: Asked,
    facts: CorpusFacts,
) -> Experts:
    """Ask the model of a run that has ended how probable the tokens of each target are to it.

    Args:
        spec: The run.
        of: Its model.
        validation: What losses are measured on; `None`: on nothing.
        questions: What tasks are scored on, of which the right answers count.
        facts: Of the corpus.
    """
    nats = validation.nats_per_token(of) if validation else {}
    bits = {name: one.validation.tokens_per_byte / math.log(2) for name, one in facts.domains.items()}
    if (answers := questions.answers).tasks:
        nats |= {f"{BPB}{task}": losses for task, losses in answers.nats_per_token(of).items()}
        bits |= {f"{BPB}{task}": factor for task, factor in answers.bits_per_nat.items()}
    texts = {
        name: TargetText(sha256=spec.measured[name], num_tokens=len(losses), bits_per_nat=bits[name])
        for name, losses in nats.items()
    }
    logs = {
        name: np.clip(-nats[name][text.kept], _LEAST, 0.0).astype(np.float16)[None]
        for name, text in texts.items()
    }
    return Experts(pd.DataFrame([spec.weights], index=[spec.run_id]), logs, texts)
