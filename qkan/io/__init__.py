"""Files of models, formats of other packages, and the Feynman equations."""
