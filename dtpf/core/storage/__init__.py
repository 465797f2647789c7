"""Object storage: any URI, atomic writes, keys, receipts."""
