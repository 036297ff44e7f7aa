"""The local HTTP interface of `plr-edge run`; needs the extra `serve`."""
