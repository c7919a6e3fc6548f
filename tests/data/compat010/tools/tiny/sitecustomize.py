"""Loaded by every interpreter whose PYTHONPATH holds this folder: makes two presets of Gossamer tiny.

Version 0.1.0 itself is unchanged; ``vit_nano`` and ``transunet_small`` only have smaller numbers in the table of
presets, so that weights take kilobytes. The full network stands in each artefact's own config, so none needs this.
"""

import dataclasses
import importlib.abc
import importlib.machinery
import sys

NAME = "gossamer.nn.models"


def shrink(module):
    presets = module.PRESETS
    changes = {
        "vit_nano": {"dim": 16, "depth": 2, "num_heads": 2, "patch_size": 7},
        "transunet_small": {
            "stem_width": 4, "stem_units": (1, 1, 1), "decoder_widths": (8, 8, 8), "dim": 16, "depth": 2,
            "num_heads": 2,
        },
    }
    for name, values in changes.items():
        if name in presets:
            presets[name] = dataclasses.replace(presets[name], **values)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        inner = spec.loader.exec_module

        def exec_module(module):
            inner(module)
            shrink(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
