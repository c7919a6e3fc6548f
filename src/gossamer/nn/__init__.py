"""Networks and attention mechanisms: tensors, never files."""
