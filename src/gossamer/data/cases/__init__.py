"""What layouts read of a case besides its pixels: tables, channels, mask values, run lengths and studies.

Owns these conventions of files that belong together. Does not own layouts or the formats of images.
"""
