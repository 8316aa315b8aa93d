"""What has been computed already: whole answers, and KV states of prompts."""
