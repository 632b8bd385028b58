"""Linear discriminants from moments of the classes."""
