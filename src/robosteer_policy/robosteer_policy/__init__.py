"""How it acts: policy node, safety guard, action scheduling."""
