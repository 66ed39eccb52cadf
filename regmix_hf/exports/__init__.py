"""A mixture in the words of the trainer that is to train on it."""

from regmix_hf.exports.mixture import MixtureToTrain
from regmix_hf.exports.trainers import TRAINERS, Trainer, render_every, render_export

__all__ = ["TRAINERS", "MixtureToTrain", "Trainer", "render_every", "render_export"]
