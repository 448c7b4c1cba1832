"""Calls in processes of their own, calls with a time limit, and calls with limited attempts."""
