"""What a network learned, and whether it holds for others than those it was trained on."""
