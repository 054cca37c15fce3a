"""The sign-off report: figures as inline SVG, and one offline HTML file."""
