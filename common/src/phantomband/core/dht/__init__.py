"""The directories' distributed hash table: Kademlia with S/Kademlia's defences, signed records, reconciliation."""
