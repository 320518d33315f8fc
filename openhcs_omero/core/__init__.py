"""What the workflow's rules and scripts call: configuration, steps, records, tables and figures."""
