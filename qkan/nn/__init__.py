"""The modules that compute: layers, networks, HQKAN, attention, convolution, spline KANs."""
