"""Icons, fonts, palettes, pictures and example data. Files only."""
