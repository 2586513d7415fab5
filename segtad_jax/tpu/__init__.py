"""Compiling for TPU slices that are not here."""
