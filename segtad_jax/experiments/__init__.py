"""The paper's tables of ablations, with seeds: `python -m segtad_jax.experiments`."""
