"""From doses and equations to states at the samples."""
