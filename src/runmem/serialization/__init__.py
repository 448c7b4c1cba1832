"""Packs and unpacks arguments, functions, classes, results and errors."""
