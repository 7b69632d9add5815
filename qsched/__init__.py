"""Q-Sched: few-step samplers with two coefficients per step that make up for a quantized backbone.

`coefficients` holds the numbers and their file, `jaq` the objective, `search` finds them; `schedulers` are
the samplers that use them (these alone need diffusers), `pipelines` puts them into a saved pipeline.
"""
