"""Conversations with a model, and the program that holds them in a terminal."""
