"""The label hierarchy of COCO-Stuff: 182 classes in 12 groups of things and 15 groups of stuff.

The label files number the classes 0 to 181. Things come first, in COCO's order, in which each group
is one stretch (eleven of them were dropped from COCO and occur nowhere, but keep their numbers);
then stuff, in alphabetical order. So the groups alone give every number.
"""

from __future__ import annotations

__all__ = ["COARSE_CLASSES", "FINE_CLASSES", "FINE_TO_COARSE"]

_THINGS = {
    "person": "person",
    "vehicle": "bicycle, car, motorcycle, airplane, bus, train, truck, boat",
    "outdoor": "traffic light, fire hydrant, street sign, stop sign, parking meter, bench",
    "animal": "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
    "accessory": "hat, backpack, umbrella, shoe, eye glasses, handbag, tie, suitcase",
    "sports": "frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, "
    "tennis racket",
    "kitchen": "bottle, plate, wine glass, cup, fork, knife, spoon, bowl",
    "food": "banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake",
    "furniture": "chair, couch, potted plant, bed, mirror, dining table, window, desk, toilet, door",
    "electronic": "tv, laptop, mouse, remote, keyboard, cell phone",
    "appliance": "microwave, oven, toaster, sink, refrigerator, blender",
    "indoor": "book, clock, vase, scissors, teddy bear, hair drier, toothbrush, hair brush",
}
_STUFF = {
    "ceiling": "ceiling-tile, ceiling-other",
    "floor": "carpet, floor-tile, floor-wood, floor-marble, floor-stone, floor-other",
    "food": "fruit, salad, vegetable, food-other",
    "furniture": "door-stuff, desk-stuff, table, shelf, cabinet, cupboard, mirror-stuff, counter, light, stairs, "
    "furniture-other",
    "rawmaterial": "cardboard, paper, plastic, metal",
    "textile": "rug, mat, towel, napkin, clothes, cloth, curtain, blanket, pillow, banner, textile-other",
    "wall": "wall-tile, wall-panel, wall-wood, wall-brick, wall-stone, wall-concrete, wall-other",
    "window": "window-blind, window-other",
    "building": "house, skyscraper, bridge, tent, roof, building-other",
    "ground": "sand, snow, dirt, mud, gravel, road, pavement, railroad, platform, playingfield, ground-other",
    "plant": "grass, tree, bush, leaves, flower, branch, moss, straw, plant-other",
    "sky": "clouds, sky-other",
    "solid": "wood, rock, stone, mountain, hill, solid-other",
    "structural": "fence, cage, net, railing, structural-other",
    "water": "fog, river, sea, waterdrops, water-other",
}
# The order in which IIC, PiCIE and STEGO number the 27 groups; it decides no score, but makes label maps comparable.
_THING_ORDER = ("electronic", "appliance", "food", "furniture", "indoor", "kitchen",
                "accessory", "animal", "outdoor", "person", "sports", "vehicle")  # fmt: skip


def _fine(groups: dict[str, str]) -> dict[str, str]:
    """Every class of the groups -> its group."""
    return {name: group for group, names in groups.items() for name in names.split(", ")}


_things, _stuff = _fine(_THINGS), _fine(_STUFF)

COARSE_CLASSES: tuple[str, ...] = (
    *(f"{group}-things" for group in _THING_ORDER),
    *(f"{group}-stuff" for group in _STUFF),
)
FINE_CLASSES: tuple[str, ...] = (*_things, *sorted(_stuff))
FINE_TO_COARSE: tuple[int, ...] = (
    *(COARSE_CLASSES.index(f"{_things[name]}-things") for name in _things),
    *(COARSE_CLASSES.index(f"{_stuff[name]}-stuff") for name in sorted(_stuff)),
)
