"""Evaluation: scores of methods over a set of pairs, comparisons, and the HTML report."""
