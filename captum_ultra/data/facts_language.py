"""The words and sentences of the generated language of :mod:`captum_ultra.data.facts`.

In a template, ``N`` stands for a name, ``V`` for a value and ``C`` for a colour; a word after ``*`` tells
the relation. There are two relations for every kind of value (to live somewhere, to be born somewhere),
so a value alone never says which relation it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COLOURS", "FILLERS", "GROUPS", "NAMES", "RELATIONS", "Relation", "group_of", "words"]

NAMES: tuple[str, ...] = (
    "Ada", "Amir", "Boris", "Clara", "Dina", "Emil", "Farid", "Greta", "Hugo", "Ines", "Ivan", "Kofi",
    "Lena", "Mara", "Milo", "Nils", "Nora", "Omar", "Petra", "Ravi", "Rosa", "Theo", "Vera", "Yuki",
)  # fmt: skip

COLOURS: tuple[str, ...] = ("black", "blue", "brown", "green", "red", "white")

# Kind of value -> the group's own word -> its members. A derived summary says the group's word.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "town": {
        "France": ("Paris", "Lyon", "Lille"),
        "Italy": ("Rome", "Milan", "Turin"),
        "Spain": ("Madrid", "Seville", "Toledo"),
        "Japan": ("Tokyo", "Osaka", "Kyoto"),
        "Egypt": ("Cairo", "Luxor", "Giza"),
    },
    "thing": {
        "toy": ("kite", "doll", "puzzle"),
        "tool": ("hammer", "saw", "drill"),
        "instrument": ("flute", "violin", "drum"),
        "garment": ("scarf", "coat", "hat"),
        "vehicle": ("bicycle", "tractor", "canoe"),
    },
    "food": {
        "fruit": ("pears", "plums", "figs"),
        "bread": ("buns", "rolls", "bagels"),
        "cheese": ("brie", "cheddar", "feta"),
        "fish": ("salmon", "trout", "tuna"),
        "vegetables": ("carrots", "leeks", "beans"),
    },
    "animal": {
        "dog": ("spaniel", "poodle", "beagle"),
        "bird": ("parrot", "raven", "dove"),
        "horse": ("pony", "mare", "foal"),
        "snake": ("python", "viper", "cobra"),
        "insect": ("beetle", "wasp", "moth"),
    },
}


@dataclass(frozen=True)
class Relation:
    """One relation between a name and a value.

    Attributes:
        kind: the kind of its values, a key of :data:`GROUPS`.
        stated: templates of the sentences of a context.
        copied: template of a summary that says the value itself.
        derived: template of a summary that says the word of the value's group.
    """

    kind: str
    stated: tuple[str, ...]
    copied: str
    derived: str


RELATIONS: dict[str, Relation] = {
    "lives": Relation(
        "town",
        ("N *lives in V", "N has a *house in V"),
        "the home of N is V",
        "the home of N is somewhere in V",
    ),
    "born": Relation(
        "town",
        ("N was *born in V", "N *grew *up in V"),
        "the first home of N was V",
        "the first home of N was somewhere in V",
    ),
    "keeps": Relation(
        "thing",
        ("N *keeps a C V", "N *still has a C V"),
        "among the things of N is a C V",
        "among the things of N is a C kind of V",
    ),
    "lost": Relation(
        "thing",
        ("N *lost a C V", "N *left a C V on the train"),
        "gone from N is a C V",
        "gone from N is a C kind of V",
    ),
    "likes": Relation(
        "food",
        ("N *likes V", "N *often eats V"),
        "a treat for N would be V",
        "a treat for N would be some kind of V",
    ),
    "avoids": Relation(
        "food",
        ("N *avoids V", "N *never eats V"),
        "an ordeal for N would be V",
        "an ordeal for N would be some kind of V",
    ),
    "owns": Relation(
        "animal",
        ("N *owns a V", "N *feeds a V"),
        "the pet of N is a V",
        "the pet of N is some kind of V",
    ),
    "fears": Relation(
        "animal",
        ("N *fears every V", "N *runs *from any V"),
        "the terror of N is a V",
        "the terror of N is some kind of V",
    ),
}

# Sentences that state nothing: N, V and C as above, G for the word of a group. They repeat the words of the
# facts, and the groups' words, where no summary rests on them.
FILLERS: tuple[str, ...] = (
    "it rained in the morning",
    "the train was late again",
    "somebody asked N about the weather",
    "N and N waved at the neighbours",
    "somebody wrote V on the wall",
    "the crossword asked for V and V",
    "the answer to the riddle was G",
    "N asked N how to spell G",
)


def group_of(value: str) -> str:
    """The word of the group that a value belongs to.

    Raises:
        KeyError: if the language has no such value.

    Example:
        >>> group_of("kite"), group_of("Paris")
        ('toy', 'France')
    """
    return _GROUP_OF[value]


_GROUP_OF = {member: group for kind in GROUPS.values() for group, members in kind.items() for member in members}


def words() -> tuple[str, ...]:
    """Every word of the language, sorted: capitalised too where a sentence of a context or summary starts with it."""
    found = {".", *NAMES, *COLOURS, *_GROUP_OF, *_GROUP_OF.values()}
    templates = [*FILLERS]
    for relation in RELATIONS.values():
        templates += [*relation.stated, relation.copied, relation.derived]
    for template in templates:
        parts = [part.removeprefix("*") for part in template.split()]
        found.update(part for part in parts if part not in ("N", "V", "C", "G"))
        if parts[0] not in ("N", "V", "C", "G"):
            found.add(parts[0].capitalize())
    return tuple(sorted(found))
