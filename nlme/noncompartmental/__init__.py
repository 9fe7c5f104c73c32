"""Non-compartmental analysis: areas, the terminal slope and what follows from them, without a model."""
