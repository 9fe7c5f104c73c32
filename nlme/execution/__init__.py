"""Work of many equal parts, done here, by other processes, or by other machines."""
