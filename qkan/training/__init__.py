"""Fitting a model to data: batches, the loop, optimisers, checkpoints, the history."""
