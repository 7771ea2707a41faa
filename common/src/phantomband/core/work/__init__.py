"""Work that is dear to do and cheap to check: what a newcomer pays before anyone looks at its signatures."""
