"""The library: adapters as plain PEFT folders, found, taken in, checked, named and thrown away."""
