"""Who tries to link clients with servers: one module each, from what can be seen to a score for every pair."""
