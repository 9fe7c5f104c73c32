"""Values with their derivatives in a few directions."""
