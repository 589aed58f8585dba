"""The loop, device and precision, schedules, checkpoints."""
