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
    "Ticket opened by user: {o}; {g}; {c}.",
    "orientation: {g} / colours: {c} / light and focus: {o}",
    "Dear support team, I am sorry to bother you, but {c}, {o} and {g}.",
    "hey, quick heads up: {c}, {o}, and oh, {g}",
    "1) {o} 2) {c} 3) {g}",
    "Good afternoon. My grandson tells me that {g}. He also says that {c}, and that {o}.",
    "Sorry for my English; at my camera {o}, also {g}, and {c}.",
    "Site report: {c}. {g}. {o}.",
    "- {g} - {o} - {c}",
    "Customer states that {o}, that {c} and that {g}.",
    "ok so basically {g}, plus {o}, plus {c}",
    "Status of the unit is as follows: {c}, {g}, {o}.",
    "In short, {o}, {g}, and {c}.",
    "fyi: {c} + {g} + {o}",
    "When I look at my screen, {g}, {o} and {c}.",
    "Before you send me anything, please know that {o}, {c}, and {g}.",
)
