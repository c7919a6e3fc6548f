"""The product as Python functions: one module for each verb.

Owns the order in which a verb calls the packages below, and the typed results. Does not own parsing, printing or the
work itself. `gossamer.train` and its siblings are the functions of this package.
"""
