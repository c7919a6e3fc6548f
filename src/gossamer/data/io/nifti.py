"""NIfTI to ``Image`` and label maps back to NIfTI, voxel for voxel in the order and place of the file.

A volume is brought to one memory order when it is read (see ``Geometry``), by exchanging and mirroring axes only. The
file is read once, a compressed one to its checksum, and every size is checked before memory is taken for it.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.data.geometry import Geometry
from gossamer.data.image import Image
from gossamer.data.io.gunzip import SIGNATURE, gunzip_head, inflate_gzip
from gossamer.data.io.nifti_header import HEADER_BYTES, MIN_HEADER_BYTES, NiftiHeader, parse_header
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import read_bytes, write_bytes

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")

_LARGEST_WHOLE = 2**53  # beyond it, floating numbers no longer tell neighbours apart


def is_nifti(path: Path | str) -> bool:
    """Return whether the name of ``path`` is that of a NIfTI file."""
    return str(path).lower().endswith(NIFTI_SUFFIXES)


def read_nifti(path: Path | str, *, channels: bool = False) -> Image:
    """Read a volume from ``.nii``, ``.nii.gz`` or a pair of ``.hdr`` and ``.img``.

    Axes are ``(slices, rows, columns[, channels])``. Integers without a scale keep their type; scaled values become
    float32.

    Args:
        path: the file.
        channels: whether a fourth axis is meant, and holds channels.

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT``, ``E-TRUNCATED``, ``E-INTEGRITY``, ``E-SYNTAX``, ``E-LIMIT``,
            ``E-UNSUPPORTED``; ``E-GEOMETRY`` for a place that is none or axes that are not meant; ``E-VALUE`` for
            voxels that are no numbers.
    """
    header, stored, notes = _read(Path(path), channels)
    array = header.geometry.to_memory(stored)
    if header.slope != 1 or header.inter != 0:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted below
            array = (array * np.float64(header.slope) + header.inter).astype(np.float32)
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(array.size - np.isfinite(array).sum())
        problem = f"{count} of {array.size} voxels are NaN or infinite"
        raise GossamerError(ErrorCode.VALUE, path, problem, "replace them or leave the volume out")
    if array.size > 1 and array.min() == array.max():
        notes = (*notes, Note(ErrorCode.VALUE, str(path), f"every voxel is {array.flat[0]:g}"))
    axes = ("slices", "rows", "columns", "channels")[: array.ndim]
    spacing_mm = header.geometry.spacing_mm
    return Image(array, axes, str(path), spacing_mm=spacing_mm, notes=notes, geometry=header.geometry)


def read_nifti_labels(path: Path | str) -> tuple[np.ndarray, Geometry]:
    """Read a label map: whole numbers ``(slices, rows, columns)``, and where they lie.

    Stored integers keep their type. Floating and scaled values are taken where every one of them is whole.

    Raises:
        GossamerError: as ``read_nifti``; ``E-LABEL`` for a value that is not whole.
    """
    header, stored, _ = _read(Path(path), channels=False)
    array = header.geometry.to_memory(stored)
    if header.slope != 1 or header.inter != 0 or array.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            values = array * np.float64(header.slope) + header.inter
            whole = (values == np.rint(values)) & (np.abs(values) <= _LARGEST_WHOLE)
        if not whole.all():
            first = values[~whole][0]
            problem = f"{int((~whole).sum())} labels are not whole numbers, the first is {first:g}"
            raise GossamerError(ErrorCode.LABEL, path, problem, "export the mask as integers, without interpolation")
        array = values.astype(np.int64)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")), header.geometry


def write_nifti_labels(path: Path | str, indices: np.ndarray, geometry: Geometry) -> None:
    """Write a label map in the order and place that ``geometry`` states, all or nothing.

    The type is the smallest unsigned one that holds the values. The same labels give the same bytes. The place is
    written as it was stored, as NIfTI-2 where the narrower fields of NIfTI-1 would round it.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        indices: whole numbers from 0, ``(slices, rows, columns)``.
        geometry: of the image that the labels belong to.

    Raises:
        GossamerError: ``E-GEOMETRY`` where the shape is another, ``E-VALUE`` for values that are no labels,
            ``E-UNSUPPORTED`` for another kind of file, ``E-NOSPACE`` or ``E-OUTPUT``.
    """
    path = Path(path)
    if indices.shape != geometry.memory_shape:
        problem = f"labels of shape {indices.shape} for a volume of shape {geometry.memory_shape}"
        raise GossamerError(ErrorCode.GEOMETRY, path, problem, "bring them to the grid of the volume")
    if indices.dtype.kind not in "bui" or (indices.size and indices.min() < 0):
        problem = f"{indices.dtype} values that are not all whole numbers from 0"
        raise GossamerError(ErrorCode.VALUE, path, problem, "write class numbers")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise GossamerError(ErrorCode.UNSUPPORTED, path, "is not a .nii or .nii.gz file", "change the name")
    stored = geometry.to_stored(indices).astype(np.min_scalar_type(int(indices.max(initial=0))))
    header = _header_of(stored, geometry)
    little = stored.astype(stored.dtype.newbyteorder("<"))
    data = header.binaryblock + bytes(4) + little.tobytes(order="F")
    write_bytes(path, gzip.compress(data, 6, mtime=0) if path.name.lower().endswith(".gz") else data)


def _header_of(stored: np.ndarray, geometry: Geometry) -> Any:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    sform = geometry.affine[:3] if geometry.sform_code else ((0.0,) * 4,) * 3
    numbers = np.array([*geometry.pixdim, *geometry.quaternion, *(value for row in sform for value in row)])
    narrow = max(stored.shape) < 2**15 and np.array_equal(numbers.astype(np.float32), numbers, equal_nan=True)
    header = Nifti1Header(endianness="<") if narrow else Nifti2Header(endianness="<")
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape)
    header["vox_offset"] = len(header.binaryblock) + 4
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["pixdim"][:4] = geometry.pixdim
    for name, value in zip("bcd", geometry.quaternion[:3], strict=True):
        header[f"quatern_{name}"] = value
    for name, value, row in zip("xyz", geometry.quaternion[3:], sform, strict=True):
        header[f"qoffset_{name}"], header[f"srow_{name}"] = value, row
    header["qform_code"], header["sform_code"] = geometry.qform_code, geometry.sform_code
    header["xyzt_units"] = geometry.units_code
    return header


def _read(path: Path, channels: bool) -> tuple[NiftiHeader, np.ndarray, tuple[Note, ...]]:
    """Return the header, the stored values ``(i, j, k[, channel])``, and notes."""
    where = str(path)
    header, data, size = _read_pair(path) if path.suffix.lower() in (".hdr", ".img") else _read_single(path)
    if header.offset > size >= header.end - header.offset + (0 if header.pair else MIN_HEADER_BYTES):
        problem = f"vox_offset {header.offset} lies behind the end of the file, byte {size}"
        raise GossamerError(ErrorCode.SYNTAX, where, problem, "export the volume again")
    if header.end > size:
        problem = f"holds {size} bytes, {'x'.join(map(str, header.shape))} voxels need {header.end}"
        raise GossamerError(ErrorCode.TRUNCATED, where, problem, "copy the file again")
    notes = header.notes
    if size > header.end:
        text = f"{size - header.end} bytes behind the last voxel are ignored"
        notes = (*notes, Note(ErrorCode.SYNTAX, where, text))
    most = 4 if channels else 3
    if len(header.shape) > most:
        problem = f"is {len(header.shape)}-D ({'x'.join(map(str, header.shape))}) where {most}-D is meant"
        raise GossamerError(ErrorCode.GEOMETRY, where, problem, "save each volume by itself")
    stored = np.ndarray(header.shape, header.dtype, buffer=data, offset=header.offset, order="F")
    return header, stored, notes


def _read_single(path: Path) -> tuple[NiftiHeader, bytes, int]:
    """Return the header, the inflated bytes that it asks for, and how many there are in all."""
    where, data = str(path), read_bytes(path)
    named_gzip = path.name.lower().endswith(".gz")
    if not data:
        raise GossamerError(ErrorCode.TRUNCATED, where, "is empty", "copy the file again")
    if named_gzip != data.startswith(SIGNATURE[: len(data)]):
        found = "is not gzip, as its name says" if named_gzip else "is gzip, which its name does not say"
        remedy = f"rename it to end in {'.nii' if named_gzip else '.nii.gz'}, or copy it again"
        raise GossamerError(ErrorCode.FORMAT, where, found, remedy)
    if named_gzip:
        try:
            header = parse_header(gunzip_head(data, HEADER_BYTES), where)
        except GossamerError as fault:
            if fault.code is not ErrorCode.LIMIT:
                inflate_gzip(data, where, keep=0)  # a header that was damaged with its file is the file's fault
            raise
        data, size = inflate_gzip(data, where, keep=header.end)
    else:
        header, size = parse_header(data[:HEADER_BYTES], where), len(data)
    if header.pair:
        problem = "says that its voxels are in an .img file"
        raise GossamerError(ErrorCode.SYNTAX, where, problem, "name it .hdr, beside its .img")
    return header, data, size


def _read_pair(path: Path) -> tuple[NiftiHeader, bytes, int]:
    """Return the header of an ``.hdr`` file, the bytes of its ``.img`` file, and their number."""
    upper = path.suffix.isupper()
    head, body = (path.with_suffix(suffix.upper() if upper else suffix) for suffix in (".hdr", ".img"))
    header = parse_header(read_bytes(head)[:HEADER_BYTES], str(head))
    if not header.pair:
        problem = "says that its voxels are in the same file"
        raise GossamerError(ErrorCode.SYNTAX, head, problem, "name it .nii")
    data = read_bytes(body)
    return header, data, len(data)
