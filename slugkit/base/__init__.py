"""What every room of slugkit may use: errors, paths, files, progress, this machine."""

from slugkit.base.errors import *
from slugkit.base.files import *
from slugkit.base.machine import *
from slugkit.base.names import *
from slugkit.base.paths import *
from slugkit.base.progress import *
from slugkit.base.versions import *
