"""Clusters: hubs in processes of their own, from the side of those who start and use them."""
