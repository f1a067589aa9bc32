"""`query serve`: one process with the model warm, answering browsers and programs."""
