"""Self-contained HTML pages with plots, tables and images."""
