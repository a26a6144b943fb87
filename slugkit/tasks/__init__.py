"""What is asked of a model: prompts and questions about a concept and about what must stay."""
