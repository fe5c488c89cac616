"""DICOM whole-slide images: OpenSlide reads them as any other slide."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

from histo.archive.listing import list_slides
from histo.data.slide import companions_of, open_slide
from histo.infer import predict_slide

TILE = 256


def write_dicom(path: Path, image: np.ndarray, mpp: float, series: str, down: int = 1) -> Path:
    """Write one level of a tiled slide as the DICOM standard has it (TILED_FULL, JPEG baseline)."""
    height, width = image.shape[:2]
    frames = []
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            tile = np.full((TILE, TILE, 3), 244, np.uint8)
            part = image[y : y + TILE, x : x + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            frames.append(cv2.imencode(".jpg", tile[..., ::-1])[1].tobytes())
    measures, shared, optical = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [mpp * down * 1e-3, mpp * down * 1e-3]
    shared.PixelMeasuresSequence = [measures]
    optical.ObjectiveLensPower = "20"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    d = Dataset()
    d.file_meta = meta
    d.SOPClassUID, d.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    d.SeriesInstanceUID, d.StudyInstanceUID, d.FrameOfReferenceUID = series, generate_uid(), generate_uid()
    d.Modality, d.ImageType = "SM", ["ORIGINAL" if down == 1 else "DERIVED", "PRIMARY", "VOLUME", "NONE"]
    d.Rows = d.Columns = TILE
    d.TotalPixelMatrixRows, d.TotalPixelMatrixColumns = height, width
    d.NumberOfFrames, d.SamplesPerPixel = len(frames), 3
    d.PhotometricInterpretation, d.PlanarConfiguration = "YBR_FULL_422", 0
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 8, 8, 7, 0
    d.DimensionOrganizationType = "TILED_FULL"
    d.SharedFunctionalGroupsSequence, d.OpticalPathSequence = [shared], [optical]
    d.PixelData = encapsulate(frames)
    d["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(path, d, enforce_file_format=True)
    return path


@pytest.fixture
def dicom(tmp_path, paint_slide) -> Path:
    image, series = paint_slide(), generate_uid()
    half = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    write_dicom(tmp_path / "level0.dcm", image, 0.5, series)
    write_dicom(tmp_path / "level1.dcm", half, 0.5, series, down=2)
    return tmp_path


def test_a_dicom_slide_has_its_levels_and_scale_and_gets_a_verdict(dicom, colour_model):
    with open_slide(dicom / "level0.dcm") as slide:
        assert slide.pyramid.downsamples == (1.0, 2.0)
        assert (slide.pyramid.mpp_x, slide.pyramid.scale_source) == (pytest.approx(0.5), "recorded")
    result = predict_slide(dicom / "level0.dcm", colour_model).result
    assert [lesion.class_name for lesion in result.lesions] == ["bone", "calcification"]


def test_the_files_of_one_dicom_slide_are_one_slide(dicom, write_tiff, paint_slide):
    write_tiff(dicom / "other.svs", [paint_slide()])
    assert [p.name for p in list_slides([dicom])] == ["level0.dcm", "other.svs"]
    (dicom / "broken.dcm").write_bytes(b"nothing")
    assert [p.name for p in list_slides([dicom])] == ["broken.dcm", "level0.dcm", "other.svs"]


def test_a_series_in_two_folders_is_two_slides(dicom, tmp_path_factory):
    """Regression: a copy, or another export under the same number, was dropped without a word."""
    other = tmp_path_factory.mktemp("other")
    for path in dicom.glob("*.dcm"):
        shutil.copy(path, other / path.name)
    assert list_slides([dicom, other]) == [dicom / "level0.dcm", other / "level0.dcm"]


def test_a_pipe_beside_dicom_is_told_instead_of_waited_at(dicom, colour_model):
    """Regression: OpenSlide opens all that lies in a DICOM file's folder, and waited at a pipe for ever."""
    os.mkfifo(dicom / "anything")
    os.symlink("nowhere", dicom / "link")
    assert [p.name for p in list_slides([dicom])] == ["level0.dcm", "level1.dcm", "link"]
    (reason,) = predict_slide(dicom / "level0.dcm", colour_model).result.reasons
    assert reason.code == "not_a_file"
    assert "anything there is a pipe, socket or device" in reason.message


def test_dicom_without_a_suffix_is_dicom(dicom, tmp_path_factory):
    """Regression: as archives keep them, named together the two levels of a slide were two slides."""
    bare = tmp_path_factory.mktemp("bare")
    uid = "1.2.826.0.1.9396"
    shutil.copy(dicom / "level0.dcm", bare / uid)
    shutil.copy(dicom / "level1.dcm", bare / "IM0002")
    (bare / "README").write_text("no slide")
    (bare / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + b"a list of files")
    assert list_slides([bare]) == list_slides([bare / uid, bare / "IM0002"]) == [bare / uid]
    assert [name for name, _, _ in companions_of(bare / uid)] == [uid, "IM0002"]
