"""Groups of items that are alike: the clustering, its figures, files and page."""
