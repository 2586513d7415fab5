"""Choices that a run makes on recordings that it keeps aside, before it trains on all."""
