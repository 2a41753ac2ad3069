"""Frames of sentences: ``{g}``, ``{c}`` and ``{o}`` take clauses, each of which is a main clause.

Those that end with a full stop are written with care; the others are typed in haste, and begin with
words of their own in small letters.
"""

FRAMES = (
    "My camera: {g}, {c}, {o}.",
    "{g}, {c} and {o}.",
    "Please adapt to my camera; {g}. Also, {c}, and {o}.",
    "With this camera {c}. Besides, {g}, and {o}.",
    "hi, {o}, {g} and {c}",
    "Note three things: {g}; {c}; {o}.",
    "I know that {g}, that {c} and that {o}.",
    "{o}. {c}. {g}.",
    "Find the right picture although {g}, {c} and {o}.",
    "In what I send you {c}, {g}, and {o}.",
    "Mind that {c}; {o}; {g}.",
    "about my webcam: {g}, {o}, {c}",
)
