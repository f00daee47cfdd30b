"""Networks: backbones, heads, losses, initial weights."""
