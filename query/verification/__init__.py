"""Whether two pictures show the same ground: local features, homographies, re-ranking, and where a query was taken."""
