"""`maxgate drill`: failures played against a scratch instance of the gateway."""
