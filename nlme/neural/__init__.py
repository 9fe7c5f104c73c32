"""Networks inside models: small multilayer networks whose weights are population parameters, and penalties on them."""
