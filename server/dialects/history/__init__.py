"""What both APIs' histories share: read so that nothing once written is refused."""
