"""Lab machines that exist already, reached by SSH; left as they were found."""
