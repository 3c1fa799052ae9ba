"""One module a way to compute a layer; each has `build(case, arrays, options) -> Subject`."""
