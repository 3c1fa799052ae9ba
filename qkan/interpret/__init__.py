"""Understand a trained model: importance, plots, formulas, Fisher information."""
