"""The torch modules: layers, networks, HQKAN, attention, convolution, recurrent ones, KANs."""
