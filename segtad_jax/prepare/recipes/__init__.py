"""Known data sets, which `prepare --recipe=NAME --source=DIR` reads as they are published.

A recipe is a module with
  SAMPLE_RATE: Hz of its raw signals, of which features are made;
  WINDOW: T in frames, unless --window names another;
  CITATION: of the data set;
  open_recordings(folder): its annotations and the source of its signals.
"""

from types import ModuleType

from segtad_jax.prepare.recipes import hapt

RECIPES: dict[str, ModuleType] = {"hapt": hapt}
