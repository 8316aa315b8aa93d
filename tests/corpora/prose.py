"""Passages in the public domain, for chats and documents. All were printed before 1900."""

from __future__ import annotations

from typing import NamedTuple


class Passage(NamedTuple):
    """A few sentences, and where they stand."""

    title: str
    author: str
    text: str


PASSAGES = (
    Passage(
        "A Tale of Two Cities",
        "Charles Dickens",
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
        "age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was "
        "the season of Light, it was the season of Darkness, it was the spring of hope, it was the "
        "winter of despair.",
    ),
    Passage(
        "Pride and Prejudice",
        "Jane Austen",
        "It is a truth universally acknowledged, that a single man in possession of a good "
        "fortune, must be in want of a wife. However little known the feelings or views of such a "
        "man may be on his first entering a neighbourhood, this truth is so well fixed in the "
        "minds of the surrounding families, that he is considered as the rightful property of some "
        "one or other of their daughters.",
    ),
    Passage(
        "Moby-Dick",
        "Herman Melville",
        "Call me Ishmael. Some years ago - never mind how long precisely - having little or no "
        "money in my purse, and nothing particular to interest me on shore, I thought I would sail "
        "about a little and see the watery part of the world. It is a way I have of driving off "
        "the spleen, and regulating the circulation.",
    ),
    Passage(
        "Alice's Adventures in Wonderland",
        "Lewis Carroll",
        "Alice was beginning to get very tired of sitting by her sister on the bank, and of having "
        "nothing to do: once or twice she had peeped into the book her sister was reading, but it "
        "had no pictures or conversations in it, 'and what is the use of a book,' thought Alice "
        "'without pictures or conversations?'",
    ),
    Passage(
        "The Gettysburg Address",
        "Abraham Lincoln",
        "Four score and seven years ago our fathers brought forth on this continent, a new nation, "
        "conceived in Liberty, and dedicated to the proposition that all men are created equal. "
        "Now we are engaged in a great civil war, testing whether that nation, or any nation so "
        "conceived and so dedicated, can long endure.",
    ),
    Passage(
        "The Origin of Species",
        "Charles Darwin",
        "There is grandeur in this view of life, with its several powers, having been originally "
        "breathed into a few forms or into one; and that, whilst this planet has gone cycling on "
        "according to the fixed law of gravity, from so simple a beginning endless forms most "
        "beautiful and most wonderful have been, and are being, evolved.",
    ),
    Passage(
        "The Fox and the Grapes",
        "Aesop",
        "One hot summer's day a Fox was strolling through an orchard till he came to a bunch of "
        "Grapes just ripening on a vine which had been trained over a lofty branch. 'Just the "
        "thing to quench my thirst,' quoth he. Drawing back a few paces, he took a run and a jump, "
        "and just missed the bunch.",
    ),
    Passage(
        "Walden",
        "Henry David Thoreau",
        "I went to the woods because I wished to live deliberately, to front only the essential "
        "facts of life, and see if I could not learn what it had to teach, and not, when I came to "
        "die, discover that I had not lived.",
    ),
)
