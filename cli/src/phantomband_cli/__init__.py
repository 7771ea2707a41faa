"""The phantomband command."""
