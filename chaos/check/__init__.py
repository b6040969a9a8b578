"""The checker: judges a recorded history, and says why."""
