"""Base models: what they are made of, which are on this computer, and how to tell them apart."""
