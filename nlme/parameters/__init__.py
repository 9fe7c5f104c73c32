"""Population parameters: their domains, their covariance, and the inventory that names them all."""
