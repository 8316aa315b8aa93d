"""Another server that answers, by Anthropic's or OpenAI's API."""
