"""The loops that choose an edit: one concept, several, on a pipeline, on a LLaVA."""
