"""Image sets of the same prompts and seeds under full precision and every quantization method."""
