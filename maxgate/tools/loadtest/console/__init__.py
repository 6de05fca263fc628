"""What people see: progress on standard error while it runs, tables on standard output after it."""
