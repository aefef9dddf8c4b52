"""How fast a model will run on a machine, before it is loaded: see docs/plan.md."""
