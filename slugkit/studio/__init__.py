"""The studio: a drawn world of invented people, objects and styles.

Nothing to download, the same bytes everywhere.
"""

from slugkit.studio.captions import caption, trait_phrases
from slugkit.studio.scenes import (
    SIZE,
    TRAIN_SIZE,
    Record,
    as_image,
    draw,
    draw_many,
    solo_records,
    training_records,
)
from slugkit.studio.world import KINDS, World, load_world, novel_name, trait_distance
