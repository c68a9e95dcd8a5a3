"""The pictures of the glossary in docs/workshop.md, into docs/glossary: plots of the embedded set,
and the crystals that the browser test of the button *picture* keeps (`make screenshot` does both).
"""

from pathlib import Path

from PIL import Image, ImageChops

import mlipkit as mk

ROOT = Path(__file__).parent.parent
GLOSSARY, SCREENSHOTS = ROOT / "docs" / "glossary", ROOT / "screenshots"
CRYSTALS = "ordering", "polaron"


def plots():
    """The plots by the name of their file; without a ground of their own, for a dark page too."""
    ends = mk.end_points(mk.load_dft())
    made = {
        "moments": mk.plots.moments(ends),
        "hull": mk.plots.hull(mk.hull(ends)),
        "entropy": mk.plots.entropy(mk.entropy_table(ends, temperatures=[300, 900])),
    }
    made["hull"].layout.updatemenus = ()  # a picture has no buttons
    return made


def cut(picture, width=800, margin=20):
    """A crystal without the empty page around it."""
    picture = picture.convert("RGB")
    empty = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    left, top, right, bottom = ImageChops.difference(picture, empty).getbbox()
    first, last = (max(0, left - margin), max(0, top - margin)), (right + margin, bottom + margin)
    picture = picture.crop((*first, *map(min, last, picture.size)))
    return picture.resize((width, round(width * picture.height / picture.width)))


if __name__ == "__main__":
    for name, figure in plots().items():
        figure.write_image(GLOSSARY / f"{name}.svg", width=400, height=260)
    for name in CRYSTALS:
        cut(Image.open(SCREENSHOTS / f"{name}.png")).save(GLOSSARY / f"{name}.png", optimize=True)
