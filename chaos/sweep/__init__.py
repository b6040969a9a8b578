"""Load sweeps: one value of a scenario is raised until what it expects breaks, and where that is."""
