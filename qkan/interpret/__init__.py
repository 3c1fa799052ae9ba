"""What a trained model says: importance, plots, formulas, Fisher information."""
