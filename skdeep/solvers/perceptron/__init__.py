"""Rosenblatt's rule, row by row, compiled or not, or in batches."""
