"""NIfTI to ``Image`` and label maps back to NIfTI, voxel for voxel in the order and place of the file.

A volume is brought to one memory order when it is read (see ``Geometry``), by exchanging and mirroring axes only. The
file is read once, a compressed one to its checksum, and every size is checked before memory is allocated for it.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.data.geometry import Geometry
from gossamer.data.image import Image
from gossamer.data.io.gunzip import SIGNATURE, gunzip_head, inflate_gzip
from gossamer.data.io.nifti_header import HEADER_BYTES, MIN_HEADER_BYTES, NiftiHeader, VoxelBlock, parse_header
from gossamer.errors import ErrorCode, GossamerError, Note
from gossamer.files import read_bytes, write_bytes

_LARGEST_WHOLE = 2**53  # beyond it, floating-point numbers no longer tell neighbours apart


def read_nifti(path: Path, data: bytes, *, labels: bool, channels: bool) -> Image:
    """Read a volume from ``.nii``, ``.nii.gz`` or a pair of ``.hdr`` and ``.img``.

    Axes are ``(slices, rows, columns[, channels])``. Integers without a scale keep their type; scaled values become
    float32. Labels that are floating-point or scaled become int64, and must be whole.

    Args:
        path: File.
        data: Content of the file.
        labels: Whether the values are class numbers.
        channels: Whether a fourth axis is allowed, which holds channels.

    Raises:
        GossamerError: ``E-MISSING``, ``E-FORMAT``, ``E-TRUNCATED``, ``E-INTEGRITY``, ``E-SYNTAX``, ``E-LIMIT``,
            ``E-UNSUPPORTED``; ``E-GEOMETRY`` for an invalid place or too many axes; ``E-VALUE`` for voxels that are not
            finite, ``E-LABEL`` for labels that are not whole.
    """
    block, stored, notes = _read_block(path, data, channels)
    array = block.geometry.to_memory(stored)
    if labels:
        array = _whole_labels(array, block, path)
    elif block.slope != 1 or block.inter != 0:
        with np.errstate(over="ignore", invalid="ignore"):  # values that overflow are counted below
            array = (array * np.float64(block.slope) + block.inter).astype(np.float32)
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(array.size - np.isfinite(array).sum())
        problem = f"{count} of {array.size} voxels are NaN or infinite"
        raise GossamerError(ErrorCode.VALUE, path, problem, "replace them, or exclude the volume")
    if not labels and array.size > 1 and array.min() == array.max():
        notes = (*notes, Note(ErrorCode.VALUE, str(path), f"every voxel is {array.flat[0]:g}"))
    axes = ("slices", "rows", "columns", "channels")[: array.ndim]
    return Image(
        array,
        axes,
        str(path),
        spacing_mm=block.geometry.spacing_mm,
        notes=notes,
        geometry=block.geometry,
        header=block.header,
    )


def write_nifti(path: Path, indices: np.ndarray, image: Image) -> None:
    """Write a label map in the order and place of the volume that it belongs to, all or nothing.

    The type is the smallest unsigned one that holds the values. The same labels give the same bytes. The place is
    written as it was stored, as NIfTI-2 where the narrower fields of NIfTI-1 would round it.

    Args:
        path: Name that ends in ``.nii`` or ``.nii.gz``.
        indices: Whole numbers from 0, ``(slices, rows, columns)``.
        image: Volume that the labels belong to.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for a volume without a place in space or another ending of the name,
            ``E-GEOMETRY`` for labels of another shape, ``E-VALUE`` for values that are not labels, ``E-NOSPACE`` or
            ``E-OUTPUT``.
    """
    geometry = image.geometry
    if geometry is None:
        problem = "is a volume without a place in space"
        raise GossamerError(ErrorCode.UNSUPPORTED, image.source, problem, "use NIfTI")
    if indices.shape != geometry.memory_shape:
        problem = f"labels of shape {indices.shape} for a volume of shape {geometry.memory_shape}"
        raise GossamerError(ErrorCode.GEOMETRY, path, problem, "resample them to the grid of the volume")
    if indices.dtype.kind not in "bui" or (indices.size and indices.min() < 0):
        problem = f"{indices.dtype} values that are not all whole numbers from 0"
        raise GossamerError(ErrorCode.VALUE, path, problem, "write class numbers")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise GossamerError(ErrorCode.UNSUPPORTED, path, "is not a .nii or .nii.gz file", "change the name")
    stored = geometry.to_stored(indices).astype(np.min_scalar_type(int(indices.max(initial=0))))
    fields = image.header if isinstance(image.header, NiftiHeader) else NiftiHeader.from_geometry(geometry)
    header = _make_header(stored, geometry, fields)
    little = stored.astype(stored.dtype.newbyteorder("<"))
    data = header.binaryblock + bytes(4) + little.tobytes(order="F")
    write_bytes(path, gzip.compress(data, 6, mtime=0) if path.name.lower().endswith(".gz") else data)


def _whole_labels(array: np.ndarray, block: VoxelBlock, path: Path) -> np.ndarray:
    if block.slope == 1 and block.inter == 0 and array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        values = array * np.float64(block.slope) + block.inter
        whole = (values == np.rint(values)) & (np.abs(values) <= _LARGEST_WHOLE)
    if not whole.all():
        first = values[~whole][0]
        problem = f"{int((~whole).sum())} labels are not whole numbers, the first is {first:g}"
        raise GossamerError(ErrorCode.LABEL, path, problem, "export the mask as integers, without interpolation")
    return values.astype(np.int64)


def _make_header(stored: np.ndarray, geometry: Geometry, fields: NiftiHeader) -> Any:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    sform = geometry.affine[:3] if fields.sform_code else ((0.0,) * 4,) * 3
    numbers = np.array([*fields.pixdim, *fields.quaternion, *(value for row in sform for value in row)])
    narrow = max(stored.shape) < 2**15 and np.array_equal(numbers.astype(np.float32), numbers, equal_nan=True)
    header = Nifti1Header(endianness="<") if narrow else Nifti2Header(endianness="<")
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape)
    header["vox_offset"] = len(header.binaryblock) + 4
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["pixdim"][:4] = fields.pixdim
    for name, value in zip("bcd", fields.quaternion[:3], strict=True):
        header[f"quatern_{name}"] = value
    for name, value, row in zip("xyz", fields.quaternion[3:], sform, strict=True):
        header[f"qoffset_{name}"], header[f"srow_{name}"] = value, row
    header["qform_code"], header["sform_code"] = fields.qform_code, fields.sform_code
    header["xyzt_units"] = fields.units_code
    return header


def _read_block(path: Path, data: bytes, channels: bool) -> tuple[VoxelBlock, np.ndarray, tuple[Note, ...]]:
    """Return the description of the voxels, the stored values ``(i, j, k[, channel])``, and notes."""
    where = str(path)
    pair = path.suffix.lower() in (".hdr", ".img")
    block, data, size = _read_pair(path, data) if pair else _read_single(path, data)
    if block.offset > size >= block.end - block.offset + (0 if block.pair else MIN_HEADER_BYTES):
        problem = f"vox_offset {block.offset} is beyond the end of the file, byte {size}"
        raise GossamerError(ErrorCode.SYNTAX, where, problem, "export the volume again")
    if block.end > size:
        problem = f"holds {size} bytes, {'x'.join(map(str, block.shape))} voxels need {block.end}"
        raise GossamerError(ErrorCode.TRUNCATED, where, problem, "copy the file again")
    notes = block.notes
    if size > block.end:
        text = f"{size - block.end} bytes behind the last voxel are ignored"
        notes = (*notes, Note(ErrorCode.SYNTAX, where, text))
    most = 4 if channels else 3
    if len(block.shape) > most:
        problem = f"has {len(block.shape)} axes ({'x'.join(map(str, block.shape))}), at most {most} are allowed here"
        raise GossamerError(ErrorCode.GEOMETRY, where, problem, "save each volume in a separate file")
    stored = np.ndarray(block.shape, block.dtype, buffer=data, offset=block.offset, order="F")
    return block, stored, notes


def _read_single(path: Path, data: bytes) -> tuple[VoxelBlock, bytes, int]:
    """Return the description of the voxels, the inflated bytes up to their end, and the number of inflated bytes."""
    where = str(path)
    named_gzip = path.name.lower().endswith(".gz")
    if not data:
        raise GossamerError(ErrorCode.TRUNCATED, where, "is empty", "copy the file again")
    if named_gzip != data.startswith(SIGNATURE[: len(data)]):
        found = "is not gzip, as its name says" if named_gzip else "is gzip, which its name does not say"
        remedy = f"rename it to end in {'.nii' if named_gzip else '.nii.gz'}, or copy it again"
        raise GossamerError(ErrorCode.FORMAT, where, found, remedy)
    if named_gzip:
        try:
            block = parse_header(gunzip_head(data, HEADER_BYTES), where)
        except GossamerError as fault:
            if fault.code is not ErrorCode.LIMIT:
                inflate_gzip(data, where, keep=0)  # a damaged header is reported as the damage of its file
            raise
        data, size = inflate_gzip(data, where, keep=block.end)
    else:
        block, size = parse_header(data[:HEADER_BYTES], where), len(data)
    if block.pair:
        problem = "says that its voxels are in an .img file"
        raise GossamerError(ErrorCode.SYNTAX, where, problem, "name it .hdr, next to its .img")
    return block, data, size


def _read_pair(path: Path, data: bytes) -> tuple[VoxelBlock, bytes, int]:
    """Return the description in an ``.hdr`` file, the bytes of its ``.img`` file, and their number."""
    upper = path.suffix.isupper()
    head, body = (path.with_suffix(suffix.upper() if upper else suffix) for suffix in (".hdr", ".img"))
    block = parse_header((data if path == head else read_bytes(head))[:HEADER_BYTES], str(head))
    if not block.pair:
        problem = "says that its voxels are in the same file"
        raise GossamerError(ErrorCode.SYNTAX, head, problem, "name it .nii")
    voxels = data if path == body else read_bytes(body)
    return block, voxels, len(voxels)
