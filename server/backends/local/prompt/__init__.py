"""From a request to token ids, and where its parts lie among them."""
