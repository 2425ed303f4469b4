"""The window of Overlay Studio. It imports Qt and the core, never torch: everything heavy happens in the engine."""
