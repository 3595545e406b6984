from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

FACE_PX = (180, 70, 265, 185)
"""About where the astronaut's face lies in scikit-image's picture."""


@pytest.fixture(scope="session")
def labelled_faces(tmp_path_factory):
    """Four pictures with the astronaut's face pasted at two sizes, one of which no detector can find: it is labelled,
    but grey. The last picture has none.
    """
    data = pytest.importorskip("skimage.data")
    pytest.importorskip("pycocotools")
    pytest.importorskip("scipy")
    portrait = Image.fromarray(data.astronaut()).crop((110, 0, 340, 256))
    x0, y0, x1, y1 = (v - o for v, o in zip(FACE_PX, (110, 0, 110, 0), strict=True))
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "images").mkdir()
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for number, scale in enumerate((1.0, 0.5, 1.0, None)):
        picture = Image.fromarray(rng.integers(100, 120, (360, 480, 3), np.uint8))
        if scale is not None:
            small = portrait.resize((round(230 * scale), round(256 * scale)))
            left, top = 20 + 60 * number, 30
            picture.paste(small, (left, top))
            box = [left + x0 * scale, top + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale]
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, "category_id": 1, "bbox": box})
        if number == 1:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": 2, "category_id": 2, "bbox": [380, 300, 12, 12]}
            )
        name = f"images/{number}.png"
        picture.save(folder / name)
        images.append({"id": number + 1, "file_name": name, "width": 480, "height": 360})
    categories = [
        {"id": 1, "name": "astronaut", "supercategory": "face"},
        {"id": 2, "name": "nothing", "supercategory": "face"},
    ]
    (folder / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    (folder / "groups.csv").write_text("annotation_id,suit\n1,orange\n2,orange\n4,orange\n3,none\n")
    return folder
