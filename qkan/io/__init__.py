"""What enters and leaves: files of models, of other packages, and the Feynman equations."""
