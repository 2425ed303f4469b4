"""Datasets: rows of a file become conversations, and everything wrong with them is told with its line."""
