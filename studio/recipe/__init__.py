"""What a training run shall do: the recipe, its field table, its checks, its file format and its presets."""
