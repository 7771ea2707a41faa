"""`doh`: a byte stream in DNS queries and answers, over HTTPS (RFC 8484) or through any recursive resolver."""
