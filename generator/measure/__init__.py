"""Measuring a gallery: numbers for each picture, and for each method against full precision or real pictures.

`weights` says which networks there are and where theirs come from, `scorers` are those that look at a picture
and its text, `lpips` and `inception` those that compare, `run` goes over a gallery, `table` sums up.
"""
