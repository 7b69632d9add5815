"""How the weights in `generator/shapes/weights` were made.

    python -m generator.shapes.training vae      pictures to latents and back
    python -m generator.shapes.training clip     the CLIP that searches optimise
    python -m generator.shapes.training judge    the CLIP that judges (other architecture, other seed)
    python -m generator.shapes.training reader   what checks generated pictures against their captions
    python -m generator.shapes.training teacher  text encoder and v-prediction U-Net, many steps with guidance
    python -m generator.shapes.training student  the same U-Net in 4 steps without guidance
    python -m generator.shapes.training card     scores on held-out captions, and the model card

Each stage counts steps, not seconds, writes a checkpoint now and then, and goes on from it when
started again. All chance in a step comes from (seed, step), so a resumed run takes the same steps.
"""
