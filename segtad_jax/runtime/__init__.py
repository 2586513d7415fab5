"""Where and how a process runs: devices, files, signals, logs."""
