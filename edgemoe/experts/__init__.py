"""The Python face of the native core: the library, the engine of one model, and its statistics."""
