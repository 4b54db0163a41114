"""Live activation steering: presets, how strongly each acts at a time, and the model's edits made of them."""
