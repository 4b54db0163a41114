"""How it is steered: bags to dataset, attention-head selection, sparse LoRA, checkpoint and report."""
