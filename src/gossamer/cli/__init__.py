"""The command line: one file for each verb.

Owns parsing and printing. Does not own work: each verb calls one function of `gossamer.api`.
"""
