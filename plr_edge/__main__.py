"""`python -m plr_edge` is `plr-edge`."""

from plr_edge.cli import cli

if __name__ == "__main__":
    cli(prog_name="plr-edge")
