"""Networks and mechanisms beside each other: the same data, order, seeds and passes for each, measured together."""
