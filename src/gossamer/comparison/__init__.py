"""Compare networks and attention mechanisms that were trained under identical conditions.

Owns the plan, the folder, the statistics and the recommendation of a comparison. Does not own training, export or
pages.
"""
