"""The model language: the Model class, what it says of itself, and how it meets a population."""
