"""What studies of several subjects share: records, a cache of runs, comparisons, figures."""
