"""Array operations for one video: arrays in, arrays out; the caller vmaps."""
