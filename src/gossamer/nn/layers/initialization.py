"""Initial weights of transformers, as in ViT (Dosovitskiy et al., arXiv 2010.11929)."""

from __future__ import annotations

from torch import nn

STANDARD_DEVIATION = 0.02


def initialize_transformer(module: nn.Module) -> None:
    """Draw the weights of one module, in place; pass it to ``network.apply``, which visits every part.

    Weights of a linear layer and a class token come from a truncated normal distribution with a standard deviation of
    0.02; biases of linear layers are zero. Other parts keep their weights.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=STANDARD_DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    class_token = getattr(module, "class_token", None)
    if isinstance(class_token, nn.Parameter):
        nn.init.trunc_normal_(class_token, std=STANDARD_DEVIATION)
