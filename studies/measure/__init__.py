"""What is run: fine-tuning, probes, choices, signs."""
