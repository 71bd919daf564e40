"""Archives in files to content and recipe, and back."""
