"""The words of an author who wrote nothing that an expert says: split ``new_words``.

Frames, habits and the names of topics (``names_test`` of each topic) were written without the
others in sight; a test looks for shared ones and for longer runs of shared words.
"""

from __future__ import annotations

from sglora_fed.tasks.wording import Author

OTHER_AUTHOR = Author(
    rules={
        "set": (
            "Anything mentioning {x} deserves the {a} flag; stick {b} on the remainder of mail.",
            "{x}? {a}. Not that? {b}.",
            "There are two boxes. In the box {a} go {x}, in the box {b} what you cannot place.",
            "Two answers will do: {a} where a note turns to {x}, {b} where it is not.",
            "I have time for {x} today, hence {a}; no time for other matters, hence {b}.",
            "Think of {x} as {a}. Think of what remains as {b}.",
            "Were you to ask me, {x} would always come out {a} while the leftovers come out {b}.",
            "Only {x} may reach me as {a}, so hand me the leftovers as {b}.",
            "my list: {x} -> {a} / rest of the world -> {b}",
            "A line that brings up {x} earns {a}, one that does not earns {b}.",
        ),
        "exception": (
            "Anything mentioning {x} deserves the {a} flag. One snag: {y}. Stick {b} on that and on"
            " the remainder of my mail.",
            "{x}? {a}. With {y} in it? {b}, as with any other theme.",
            "There are two boxes. In the box {a} go {x} minus {y}, in the box {b} goes what that"
            " leaves over.",
            "I have time for {x} today, hence {a}, though none for {y}; that joins the leftovers,"
            " hence {b}.",
            "Think of {x} as {a}, with one hole in it: {y}. The hole and what remains are {b}.",
            "Only {x} may reach me as {a}, yet {y} must stay outside, so hand me that and the"
            " leftovers as {b}.",
            "my list: {x} (no {y}!) -> {a} / rest of the world -> {b}",
            "A line that brings up {x} earns {a}. Once it brings up {y} it earns {b}, like a line"
            " on some different matter.",
        ),
        "priority": (
            "Anything mentioning {x} deserves the {a} flag, {y} the {b} flag, and the remainder of"
            " my mail the {c} flag.",
            "{x}? {a}. {y}? {b}. Neither? {c}.",
            "There are three boxes. {x} fill the box {a}, {y} the box {b}, and the box {c} takes"
            " what you cannot place.",
            "I have time for {x} today, hence {a}, a little for {y} afterwards, hence {b}, and none"
            " for other matters, hence {c}.",
            "Think of {x} as {a} and of {y} as {b}. Think of what remains as {c}.",
            "On top of the ladder sits {x} with {a}, one step down {y} with {b}, on the floor lies"
            " the remaining world with {c}.",
            "my list: {x} -> {a} / {y} -> {b} / rest of the world -> {c}",
            "A line that brings up {x} earns {a}, one that brings up {y} earns {b}, one that does"
            " neither earns {c}.",
        ),
    },
    styles=(
        "My notes deal with {topic}. Say which wish is behind each, with an eye on this: {habit}.",
        "Heads up, {habit}. Within {topic}, what am I after?",
        "There is a handful of things I may want from {topic}; pick the one, and bear with me since"
        " {habit}.",
        "{topic}: guess my intention ({habit})",
        "Let {topic} be the field, then name my errand. By the way, {habit}.",
        "you'll get lines about {topic} from me and should know {habit}, now which errand is it",
        "Since {habit}, reading me takes patience; still, match every line to a wish within"
        " {topic}.",
        "Stuff from the world of {topic}, typed by someone who admits: {habit}. Which wish fits?",
    ),
    habits={
        "no_vowels": (
            "a, e, i, o and u rarely make it into my words",
            "you get nothing of a word but its start and its consonants",
        ),
        "leetspeak": (
            "a 3 stands where an e ought to be, a 0 where an o ought to be",
            "I type like a hacker of the nineties, figures for characters",
        ),
        "swapped_letters": (
            "the middle characters of a long word trade seats",
            "my fingers overtake one another halfway through a word",
        ),
        "pig_latin": (
            "I use the secret talk of the playground, ig-pay atin-lay",
            "the front of a word travels to the back and gets an -ay",
        ),
        "doubled_vowels": (
            "I drawl, so the final a, e, i, o or u of a word repeats",
            "there is an echo on the closing vowel",
        ),
        "phonetic": (
            "orthography is not my thing, I put down sounds",
            "I type what the ear hears",
        ),
        "missing_letters": (
            "longer words lose the last but one character",
            "one key of mine is broken, so words have a gap close to the finish",
        ),
        "glued_words": (
            "blanks get lost, so words stick to a neighbour",
            "I hit the space key half as often as I should",
        ),
        "doubled_consonants": (
            "there is an echo on the closing consonant",
            "I stammer, so the final consonant repeats",
        ),
        "clipped_words": (
            "four characters is all a word gets from me",
            "I abbreviate by chopping off the tail of words",
        ),
    },
    rest=("the rest", "anything else", "whatever is left"),
    names=lambda topic: topic.names_test or topic.names,
)
"""Of the three ways to say the rest, the last is none that
:func:`~sglora_fed.tasks.everyday.means_the_rest` knows."""
