"""A synthetic world with known truth: a landscape, drone photographs of it, and questions whose answers are known."""
