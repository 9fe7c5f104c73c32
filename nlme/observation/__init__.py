"""What is observed, given the prediction: residual errors and other likelihoods of a record."""
