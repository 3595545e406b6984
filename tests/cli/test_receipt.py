"""Receipts: what they state, how they are checked, and that nothing personal is in them or beside them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from trt_anon.api import Anonymizer, ReceiptMaker, Resume
from trt_anon.errors import InputError, OutputError, UsageError
from trt_anon.files import hash_of
from trt_anon.job.receipt import Receipt, digest, read_receipt
from trt_anon.job.signing import check_signature, load_key, make_key, sign

Invoke = Callable[..., Result]
SCHEMA = Path(__file__).parents[2] / "docs" / "receipt.schema.json"


@pytest.fixture
def folder(tmp_path: Path, clips: ModuleType, faces: ModuleType) -> Path:
    """A picture, a clip and a broken picture, in folders and under names that tell of somebody."""
    from PIL import Image

    root = tmp_path / "Erika_Mustermann" / "in"
    root.mkdir(parents=True)
    Image.fromarray(faces.picture()).save(root / "Erika_at_home.png")
    faces.face_clip(clips, root / "Erika_in_court.mp4", frames=4, options={"preset": "ultrafast"})
    (root / "Erika_broken.png").write_bytes((root / "Erika_at_home.png").read_bytes()[:2000])
    return root


def test_what_a_receipt_states(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "out", tmp_path / "receipt.json"
    assert invoke("anonymize", folder, "-o", out, "--receipt", path, "--verify", "-q").exit_code == 1
    receipt = read_receipt(path)
    by_input = {file.input_sha256: file for file in receipt.files}
    assert set(by_input) == {hash_of(folder / name) for name in ("Erika_at_home.png", "Erika_in_court.mp4")}
    clip = by_input[hash_of(folder / "Erika_in_court.mp4")]
    assert clip.output_sha256 == hash_of(out / "Erika_in_court.mp4")
    assert (clip.kind, clip.frames) == ("video", 4)
    assert clip.objects["face"] >= 4
    assert clip.verification is not None
    assert clip.verification.passed
    assert dict(receipt.failed) == {"InputError": 1}
    (detector,) = receipt.detectors
    assert detector.name == "yunet"
    assert 0 < float(detector.measured["recall_at_iou_03"]) < 1
    assert receipt.settings["method"] == "gaussian"
    assert receipt.software["trt-anon"]
    assert "GDPR Recital 26" in receipt.terms
    assert json.loads(path.read_text())["files"][0]["verification"]["leaks"] == 0
    checked = invoke("receipt", "check", path, "--outputs", out, "--inputs", folder)
    assert checked.exit_code == 0, checked.output
    assert "all 2 outputs are there, unchanged" in checked.stdout
    assert "2 of 2 files were verified" in checked.stdout
    # A run that finds everything done gives the same receipt, but for its time.
    assert invoke("anonymize", folder, "-o", out, "--receipt", tmp_path / "b.json", "--verify", "-q").exit_code == 1
    assert read_receipt(tmp_path / "b.json").files == receipt.files


def test_a_threshold_of_the_users_own_has_no_recall_to_show(folder: Path, tmp_path: Path) -> None:
    source = folder / "Erika_at_home.png"
    with Anonymizer(threshold=0.5) as anonymizer:
        maker = ReceiptMaker([source])
        receipt = anonymizer.receipt(maker, anonymizer.files([source], tmp_path / "a.png"))
    assert receipt.detectors[0].threshold == 0.5
    assert receipt.detectors[0].measured == {}


def test_every_artefact_of_a_run_is_searched_for_names_paths_and_coordinates(
    invoke: Invoke, folder: Path, tmp_path: Path
) -> None:
    """What is left after a job: outputs, the receipt, the journal, and what was printed."""
    with Anonymizer() as anonymizer:
        boxes = [
            float(value)
            for name in ("Erika_at_home.png", "Erika_in_court.mp4")
            for _, found in anonymizer.detect_file(folder / name)
            for value in found.boxes_xyxy_px.ravel()
        ]
    journal, out = tmp_path / "books.sqlite", tmp_path / "out"
    words = ["-o", out, "--receipt", tmp_path / "receipt.json", "--journal", journal, "--verify", "--segment", "0.1"]
    result = invoke("anonymize", folder, *words)
    assert result.exit_code == 1
    artefacts = {path.name: path.read_bytes() for path in tmp_path.glob("books.sqlite*")}
    artefacts["receipt"] = (tmp_path / "receipt.json").read_bytes()
    artefacts |= {f"content of {path.suffix}": path.read_bytes() for path in out.iterdir()}
    artefacts["printed"] = result.stdout.encode()
    assert len(artefacts) >= 5
    numbers = {f"{value:.{digits}f}" for value in boxes for digits in (1, 2, 3)} | {repr(np.float32(v)) for v in boxes}
    for name, data in artefacts.items():
        for secret in ("Erika", "Mustermann", "court", str(tmp_path), os.path.basename(tmp_path)):  # noqa: PTH119
            assert secret.encode() not in data, (name, secret)
        if not name.startswith("content"):
            found = {n.decode() for n in re.findall(rb"(?<![\d.])\d+\.\d+(?![\d.])", data)}
            assert not found & numbers, name
    whole = json.loads(artefacts["receipt"])
    assert not _lists_of_numbers(whole)


def _lists_of_numbers(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_lists_of_numbers, value.values()))
    if isinstance(value, list):
        return any(isinstance(v, int | float) for v in value) or any(map(_lists_of_numbers, value))
    return False


def test_signatures(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    key = tmp_path / "key.pem"
    public = invoke("receipt", "key", key).stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", public)
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(OutputError):
        make_key(key)
    path = tmp_path / "receipt.json"
    source = folder / "Erika_at_home.png"
    words = ["anonymize", source, "-o", tmp_path / "a.png", "-q"]
    assert invoke(*words, "--receipt", path, "--receipt-key", key).exit_code == 0
    assert invoke("receipt", "check", path, "--public-key", public, "--outputs", tmp_path / "a.png").exit_code == 0
    other = make_key(tmp_path / "other.pem")
    assert "another key" in str(invoke("receipt", "check", path, "--public-key", other).exception)
    changed = json.loads(path.read_text())
    changed["files"][0]["objects"]["face"] = 0
    path.write_text(json.dumps(changed))
    assert "changed after" in str(invoke("receipt", "check", path).exception)
    receipt = read_receipt(path)
    check_signature(sign(receipt, load_key(key)), public)
    with pytest.raises(InputError, match="not signed"):
        check_signature(receipt.model_copy(update={"signature": None}))
    for bad in (source, tmp_path / "none.pem"):
        with pytest.raises(UsageError):
            load_key(bad)
    assert invoke(*words, "--receipt-key", key, "--overwrite").exit_code == 2


def test_receipts_that_are_none_and_files_that_are_others(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    source = folder / "Erika_at_home.png"
    path, out = tmp_path / "receipt.json", tmp_path / "out"
    assert invoke("anonymize", source, "-o", f"{out}/", "--receipt", path, "-q").exit_code == 0
    shutil.copy(source, out / "Erika_at_home.png")
    assert "1 of 1 outputs are not there" in str(invoke("receipt", "check", path, "--outputs", out).exception)
    for bad in ("", "[]", "{}", "null", '{"format": "trt-anon receipt"}', "[" * 100000, path.read_text()[:-9]):
        (tmp_path / "bad.json").write_text(bad)
        assert invoke("receipt", "check", tmp_path / "bad.json").exit_code == 1
    extra = json.loads(path.read_text()) | {"name": "Erika"}
    (tmp_path / "bad.json").write_text(json.dumps(extra))
    assert "name" in str(invoke("receipt", "check", tmp_path / "bad.json").exception)
    assert len(digest(read_receipt(path))) == 64


def test_an_input_that_changes_while_the_job_runs(folder: Path, tmp_path: Path) -> None:
    source = folder / "Erika_at_home.png"
    with Anonymizer(runtime="null") as anonymizer:
        maker = ReceiptMaker([source])
        report = anonymizer.files([source], tmp_path / "a.png", resume=Resume())
        os.utime(source)
        with pytest.raises(InputError, match="changed while"):
            anonymizer.receipt(maker, report)


def test_the_schema_in_the_docs_is_that_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text()) == Receipt.model_json_schema()
