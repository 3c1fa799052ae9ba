"""Tables: reading CSV files, models of tables, and scikit-learn estimators."""
