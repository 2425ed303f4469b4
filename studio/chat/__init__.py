"""Conversations down several lanes at once, as plain data: no model, no window."""
