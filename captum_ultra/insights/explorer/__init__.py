"""The token explorer: a page on which a reader points at tokens and sees what they hold."""

from captum_ultra.insights.explorer.explore import explore
from captum_ultra.insights.explorer.explorer import Explorer
from captum_ultra.insights.explorer.images import ImageMaps, image_maps
from captum_ultra.insights.explorer.methods import named_methods
from captum_ultra.insights.explorer.texts import TextMaps, text_maps

__all__ = ["Explorer", "ImageMaps", "TextMaps", "explore", "image_maps", "named_methods", "text_maps"]
