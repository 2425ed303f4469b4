"""The core of Overlay Studio: recipes, data, runs, adapters. It never imports Qt."""

__version__ = "0.1.0"
