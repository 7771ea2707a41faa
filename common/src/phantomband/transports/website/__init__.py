"""A port that is an ordinary web site's, as nginx has it, to whoever does not know its secret."""
