"""The model registry: recipes, where each model comes from, its hash and its licence."""
