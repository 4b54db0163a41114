"""Sparse finetuning: recipes as data, the adapter, the training loop."""
