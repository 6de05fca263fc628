"""From raw records to what the report says."""
