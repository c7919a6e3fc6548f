"""Make a trained network smaller and faster, within a stated loss."""
