"""Images drawn by a program, for demonstrations and tests.

Owns the chest phantom and the abdomen phantom. Does not own reading.
"""
