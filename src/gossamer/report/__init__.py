"""One self-contained page that can be sent to a colleague, and the figures in it."""
