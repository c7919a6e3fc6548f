"""Networks and attention mechanisms.

Owns everything that touches a parameter tensor. Does not own files or data sets.
"""
