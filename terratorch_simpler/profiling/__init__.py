"""What every depth costs: parameters, FLOPs, time and memory."""
