"""Self-contained HTML pages and the figures in them.

Owns layout and drawing. Does not own evaluation: everything that a page shows is computed elsewhere.
"""
