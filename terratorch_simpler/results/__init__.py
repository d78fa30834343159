"""What a command finds, as frozen records: plan, probe and the words for both."""
