"""Training aids: other problems to solve first, whose solutions are good starting values where a fit from the model's own is lost."""
