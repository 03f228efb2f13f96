"""The sheet: a column a scene, a row a panel, the target marked in each."""

from captum_ultra.data import Scenes
from captum_ultra.experiments.scene_sheet import MAPS, draw_sheet
from captum_ultra.models.vit import VisionTransformer, ViTConfig


def test_every_panel_shows_a_picture_and_the_target(tmp_path):
    model = VisionTransformer(ViTConfig(dim=16, depth=1, heads=2)).eval()
    figure = draw_sheet(model, Scenes(2), layer=1)
    assert len(figure.axes) == 2 * (2 + len(MAPS))
    assert all(len(axis.images) == 1 and len(axis.patches) == 2 for axis in figure.axes)
    figure.savefig(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 5000
