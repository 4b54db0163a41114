"""Value vectors of PaliGemma's FFNs, read in the vocabulary."""
