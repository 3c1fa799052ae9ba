"""Fit a model to data: batches, the loop, optimizers, checkpoints and the history."""
