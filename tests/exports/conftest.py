"""A mixture of three domains whose documents differ a hundredfold in length."""

import pytest

from regmix_hf.exports import MixtureToTrain
from regmix_hf.recipe import Domain


@pytest.fixture
def mixture():
    return MixtureToTrain(
        name="chosen",
        weights={"books": 0.5, "web": 0.3, "tweets": 0.2, "unused": 0.0},
        num_train_tokens=1_000_000,
        context_length=16,
        tokenizer="some/tokenizer",
        seed=3,
        domains={
            name: Domain(path="json", data_files=f"data/{name}.jsonl")
            for name in ("books", "web", "tweets", "unused")
        },
        tokens_per_document={"books": 5000.0, "web": 500.0, "tweets": 50.0},
        num_documents={"books": 200, "web": 100, "tweets": 100_000},
    )
