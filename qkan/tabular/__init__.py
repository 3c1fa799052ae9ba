"""Columns in, predictions out: reading tables, table models, estimators."""
