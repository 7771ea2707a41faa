"""`obfs4`: link records that look like random bytes to whoever has not been given the node's certificate."""
