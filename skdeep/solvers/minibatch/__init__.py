"""Mini-batch gradient descent: its loop, and how far a model has been trained."""
