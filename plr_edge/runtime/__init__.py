"""Where the parts meet: perception answers, the session also learns."""
