"""Pages: the HTML frame and style of every evaluation, comparison, audit and search page, and the style of their figures."""
