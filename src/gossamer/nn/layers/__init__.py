"""What networks share: patch embedding, positions, blocks."""
