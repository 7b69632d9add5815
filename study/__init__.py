"""Blinded 1v1 studies: galleries in, a voting site, votes out."""
