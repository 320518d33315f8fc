"""Storage backends behind one interface, and the file manager that steps save through."""
