"""Studies that fit tables with the estimators."""
