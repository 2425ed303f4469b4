"""Reusable parts of the window. They take plain values, never types of the core, and know nothing of pages."""
