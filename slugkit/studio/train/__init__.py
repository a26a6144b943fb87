"""The recipes that train the studio models from nothing, or a CLIP on a person's own folder of
pictures.
"""
