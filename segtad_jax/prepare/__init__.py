"""Features and annotations of any form -> a data set."""
