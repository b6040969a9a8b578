"""A new plugin package, whole and tested: `squall plugins new`."""

from squall.chaos.scaffold.write import KINDS, scaffold

__all__ = ["KINDS", "scaffold"]
