"""What ports of the authors' weights share."""
