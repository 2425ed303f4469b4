"""Training memory: what a recipe will take, and what the card has."""
