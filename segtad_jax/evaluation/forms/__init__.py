"""Forms of annotations, a module each: what each can say, and where that is documented."""
