"""Trained models on devices: estimate, run, resume, train."""
