"""Small JPEG files of every kind that a decoder treats differently, by Pillow.

    python tests/reference/jpegs.py
"""

from common import FIXTURES
from PIL import Image


def main() -> None:
    folder = FIXTURES / "jpeg"
    folder.mkdir(exist_ok=True)
    picture = Image.radial_gradient("L").resize((48, 40))
    picture = Image.merge("RGB", (picture, picture.rotate(90), picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    files = {
        "baseline": (picture, {}),
        "progressive": (picture, {"progressive": True}),
        "restarts": (picture, {"restart_marker_blocks": 2}),
        "grey": (picture.convert("L"), {}),
        "cmyk": (picture.convert("CMYK"), {}),
    }
    for name, (image, options) in files.items():
        image.save(folder / f"{name}.jpg", "JPEG", quality=60, **options)


if __name__ == "__main__":
    main()
