"""The exported directory that a board needs: opened, checked, written and signed."""
