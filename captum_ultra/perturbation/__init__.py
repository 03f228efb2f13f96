"""What happens to a model when the parts of its input that an explanation names are taken away."""
