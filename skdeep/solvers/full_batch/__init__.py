"""All rows at once: L-BFGS, Newton, proximal Newton, Levenberg and Marquardt."""
