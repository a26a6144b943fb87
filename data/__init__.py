"""The studio's models, its world, and published figures: files alone."""
