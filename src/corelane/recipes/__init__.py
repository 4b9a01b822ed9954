"""Recipes: ready configurations, with small real data sets beside them, for `corelane init --template NAME` to copy."""
