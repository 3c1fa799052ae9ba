"""Run trained models on quantum devices: estimate, run, resume, train."""
