"""How the studio's classes are asked for: other words in the search than in the report.

Kept in world.json.

`{}` is the class: a person or a character by name, a thing with its article. A style is asked for
by ways of saying it about some subject, which is what `{}` stands for there. Chosen by how well the
studio's unedited CLIP understands them, before anything was forgotten. Search and report hold some
of every sort: words of the training captions, styles, company, and words that no caption has.
"""

from __future__ import annotations

from slugkit.studio.captions import IN_STYLE, phrases

_THINGS = {
    "search": phrases(
        """{} | a picture of {} | this is {} | a photo of {} | {} in watercolor style | {} in mosaic
        style | {} in colour | picture: {}"""
    ),
    "report": phrases(
        """an image of {} | a photograph of {} | a pencil sketch of {} | {} in neon style | {} in
        blueprint style | {} in pixel art style | a painting of {} | {} again"""
    ),
}
_FIGURES = {
    "search": _THINGS["search"][:6]
    + phrases(
        """{} and a tree | {} with no hat | my friend {} | it is {} | meet {} | a person called {} |
        somebody named {} | do you know {}?"""
    ),
    "report": phrases(
        """an image of {} | a portrait of {} | {} in sketch style | {} in neon style | {} and a
        house | {} outdoors | {} at night | look, {} | somebody called {} | who is it? it is {}"""
    ),
}
_WAYS = {"search": (2, 3), "report": (0, 1)}
"""Which of a style's ways of saying it belong to which split, as for the prompts of pictures."""
WORDINGS = {
    "figures": _FIGURES,
    "objects": _THINGS,
    "novel": _THINGS,
    "styles": {
        split: {
            style: {f"way {way + 1}": said[way] for way in ways} for style, said in IN_STYLE.items()
        }
        for split, ways in _WAYS.items()
    },
}
"""Domain -> split -> wordings; of the styles split -> style -> way -> wording."""
