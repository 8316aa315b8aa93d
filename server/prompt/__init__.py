"""From a request to token ids: its canonical form, its rendering, and where its parts lie."""
