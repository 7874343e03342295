"""The way from the broker to a task: what is taken, believed and refused."""
