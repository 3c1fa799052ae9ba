"""Make a new model from a model: extend, prune, fold, convert to splines, export."""
