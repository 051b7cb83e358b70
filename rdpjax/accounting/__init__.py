"""What the account command needs beyond a fit: tables, independent mathematics, the laboratory."""
