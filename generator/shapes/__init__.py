"""The embedded world: captioned pictures of shapes, and tiny models honestly trained on them."""
