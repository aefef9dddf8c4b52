"""Replicas of the server on a Ray cluster, and measurements and packs whose work its machines share."""
