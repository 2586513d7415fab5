"""A trained model for use without this package."""
