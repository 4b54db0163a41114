"""Which attention heads carry the task: activation cache, scores and selections."""
