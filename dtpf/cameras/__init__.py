"""From what real cameras deliver to what the network takes, and back to pictures and videos."""
