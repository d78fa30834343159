"""What a command finds, as frozen records: plan, probe, profile, savings, and their words."""
