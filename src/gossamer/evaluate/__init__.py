"""How good a model is: per case, with intervals, beside the trivial answer."""
