"""A trained model on recordings without annotations."""
