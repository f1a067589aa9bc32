"""What the commands share on screen: options, tables, JSON, progress, and errors turned into exit codes."""
