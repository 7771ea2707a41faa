"""Looking at a network: how a directory stands, whom the view has, whether a document holds; bridge lines."""
