"""The header of a NIfTI-1 or NIfTI-2 file; every field that is used is checked against the standard.

Cox et al., "A (sort of) new image data format standard: NIfTI-1", 2004; NIfTI-2 has the same fields, wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.data.geometry import MOST_LENGTH, Affine, Geometry, affine_fault, closest_axes, corner_distance
from gossamer.data.io.limits import check_inflated
from gossamer.errors import ErrorCode, GossamerError, Note

MIN_HEADER_BYTES, HEADER_BYTES = 348, 540  # of NIfTI-1 and NIfTI-2

_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_TYPES_NOT_READ = {
    1: "1-bit", 32: "complex", 128: "RGB", 1536: "128-bit", 1792: "complex", 2048: "complex", 2304: "RGBA",
}  # fmt: skip
_MAGIC = {348: (b"n+1\0", b"ni1\0"), 540: (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")}
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown counts as mm, as in other software

_MOST_DEGREES, _MOST_MM = 1.0, 0.5  # by which qform and sform may differ without a note


@dataclass(frozen=True)
class NiftiHeader:
    """Fields that place a volume in space, as stored: masks of the volume are written with the same ones.

    Attributes:
        units_code: Code of the units of space and time, ``xyzt_units``.
        qform_code: Coordinate system of the stored quaternion; 0 for none.
        sform_code: Coordinate system of the stored matrix; 0 for none.
        pixdim: Sign of the third axis, then the spacing along ``i``, ``j`` and ``k``.
        quaternion: ``b``, ``c`` and ``d``, then the offsets ``x``, ``y`` and ``z``.
    """

    units_code: int
    qform_code: int
    sform_code: int
    pixdim: tuple[float, float, float, float]
    quaternion: tuple[float, float, float, float, float, float]

    @classmethod
    def from_geometry(cls, geometry: Geometry) -> NiftiHeader:
        """Return the fields of a volume that was not read from NIfTI."""
        units_code = next(code for code, mm in reversed(_UNIT_MM.items()) if mm == geometry.unit_mm)
        pixdim = (1.0, *geometry.stored_spacing)
        return cls(units_code, 0, int(geometry.oriented), pixdim, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0))


@dataclass(frozen=True)
class VoxelBlock:
    """The voxels of a file as its header describes them: where they begin, their type, scale and place.

    Attributes:
        shape: Stored sizes, at least three, without axes of size 1 behind the third.
        dtype: Type of the stored values, with its byte order.
        offset: Byte at which the values begin.
        slope: Factor of the stored values (1 for none).
        inter: Number that is added to the scaled values.
        pair: Whether the voxels are in a separate file.
        geometry: Place of the voxels in space.
        header: Fields that masks of the volume are written with.
        notes: Decisions that were made.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    pair: bool
    geometry: Geometry
    header: NiftiHeader
    notes: tuple[Note, ...]

    @property
    def end(self) -> int:
        """The byte behind the last voxel."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def parse_header(data: bytes, where: str) -> VoxelBlock:
    """Read and check the header at the start of ``data``.

    Raises:
        GossamerError: ``E-FORMAT`` for another format, ``E-TRUNCATED``, ``E-SYNTAX`` for a field that violates the
            standard, ``E-LIMIT`` for too many voxels, ``E-UNSUPPORTED`` for their type, ``E-VALUE`` for a scale that is
            not finite, ``E-GEOMETRY`` for an invalid place.
    """
    fields, single = _parse_fields(data, where)
    dim = [int(size) for size in fields["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : 1 + dim[0]]) < 1:
        raise _syntax_error(where, f"dim {dim} is not a number of axes from 1 to 7 and their sizes from 1")
    dtype = _parse_dtype(fields, where)
    check_inflated(where, math.prod(dim[1 : 1 + dim[0]]) * dtype.itemsize)
    shape, notes = _parse_shape(dim, where)
    offset, header_end = float(fields["vox_offset"]), int(fields["sizeof_hdr"]) + 4
    if not math.isfinite(offset) or offset != int(offset) or offset < (header_end if single else 0):
        least = f"{header_end}, where the header ends" if single else "0"
        raise _syntax_error(where, f"vox_offset {offset:g} is not a whole number of at least {least}")
    check_inflated(where, int(offset))
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    if not (math.isfinite(slope) and math.isfinite(inter)):
        problem = f"scl_slope {slope:g} and scl_inter {inter:g} are not both finite"
        raise GossamerError(ErrorCode.VALUE, where, problem, "export the volume again")
    geometry, header, decided = _parse_geometry(fields, (shape[0], shape[1], shape[2]), where)
    scale = (slope, inter) if slope else (1.0, 0.0)  # the standard: a slope of 0 means that there is no scale
    return VoxelBlock(shape, dtype, int(offset), *scale, not single, geometry, header, (*notes, *decided))


def _parse_fields(data: bytes, where: str) -> tuple[Any, bool]:
    """Return the fields as nibabel reads them, without corrections, and whether the voxels are in the same file."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    sizes = {order: int(np.frombuffer(data[:4].ljust(4, b"\0"), f"{order}i4")[0]) for order in "<>"}
    order = next((order for order, size in sizes.items() if size in _MAGIC), None)
    magic_at_344, magic_at_4 = data[344:348], data[4:12]
    if order is None:
        if magic_at_344 not in _MAGIC[348] and magic_at_4 not in _MAGIC[540]:
            if len(data) < 348:
                raise GossamerError(
                    ErrorCode.TRUNCATED, where, f"holds {len(data)} bytes, a header needs 348", "copy the file again"
                )
            raise GossamerError(
                ErrorCode.FORMAT, where, f"begins with {data[:8]!r}, which is not NIfTI", "convert it, or remove it"
            )
        raise _syntax_error(where, f"sizeof_hdr {sizes['<']} is neither 348 nor 540")
    size = sizes[order]
    if len(data) < size:
        problem = f"holds {len(data)} bytes, a header needs {size}"
        raise GossamerError(ErrorCode.TRUNCATED, where, problem, "copy the file again")
    magic = magic_at_344 if size == 348 else magic_at_4
    if magic not in _MAGIC[size]:
        raise _syntax_error(where, f"magic {magic!r} is not {_MAGIC[size][0]!r} or {_MAGIC[size][1]!r}")
    kind = Nifti1Header if size == 348 else Nifti2Header
    return kind(data[:size], endianness=order, check=False), magic == _MAGIC[size][0]


def _parse_dtype(fields: Any, where: str) -> np.dtype:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    if code in _TYPES_NOT_READ:
        problem = f"holds {_TYPES_NOT_READ[code]} values (datatype {code}), whole and floating-point numbers are read"
        raise GossamerError(ErrorCode.UNSUPPORTED, where, problem, "convert it to one number per voxel")
    if code not in _TYPES:
        raise _syntax_error(where, f"datatype {code} is not defined")
    dtype = np.dtype(_TYPES[code]).newbyteorder(fields.endianness)
    if bits != 8 * dtype.itemsize:
        raise _syntax_error(where, f"bitpix {bits} contradicts datatype {code}, which has {8 * dtype.itemsize} bits")
    return dtype


def _parse_shape(dim: list[int], where: str) -> tuple[tuple[int, ...], list[Note]]:
    shape = dim[1 : 1 + dim[0]]
    if len(shape) < 3:
        text = f"has {len(shape)} axes; read as a volume of one slice"
        return (*shape, *[1] * (3 - len(shape))), [Note(ErrorCode.GEOMETRY, where, text)]
    notes = []
    if len(shape) > 3 and shape[-1] == 1:
        notes.append(Note(ErrorCode.GEOMETRY, where, f"has {len(shape)} axes, the last of size 1; it is dropped"))
        while len(shape) > 3 and shape[-1] == 1:
            shape.pop()
    return tuple(shape), notes


def _parse_geometry(fields: Any, shape: tuple[int, int, int], where: str) -> tuple[Geometry, NiftiHeader, list[Note]]:
    qform_code, sform_code = int(fields["qform_code"]), int(fields["sform_code"])
    units = int(fields["xyzt_units"])
    if units & 7 not in _UNIT_MM:
        raise _syntax_error(where, f"xyzt_units {units} is not a unit of length")
    if min(qform_code, sform_code) < 0:
        raise _syntax_error(where, f"qform_code {qform_code} and sform_code {sform_code} are not both 0 or more")
    unit_mm = _UNIT_MM[units & 7]
    # The standard reads 0 as 1 here; of other numbers the sign counts.
    fields["pixdim"][0] = -1 if fields["pixdim"][0] < 0 else 1
    pixdim = [float(value) for value in fields["pixdim"][:4]]
    notes = []
    qform = _parse_qform(fields, pixdim, where) if qform_code else None
    if sform_code:
        affine = np.array([*(fields[f"srow_{axis}"] for axis in "xyz"), (0, 0, 0, 1)], dtype=float)
    else:
        affine = qform if qform is not None else _scale_affine(pixdim, where)
    fault = affine_fault(affine)
    if fault:
        raise GossamerError(ErrorCode.GEOMETRY, where, fault, "export the volume again")
    if sform_code and qform is not None:
        notes += _compare_forms(affine, qform, shape, unit_mm, where)
    axes, flips = ((2, 1, 0), (False, False, False)) if not (qform_code or sform_code) else closest_axes(affine)
    if not (qform_code or sform_code):
        text = "states no orientation (qform and sform are 0); left and right are unknown, the axes stay as stored"
        notes.append(Note(ErrorCode.GEOMETRY, where, text))
    geometry = Geometry(
        affine=_freeze_affine(affine),
        stored_shape=shape,
        axes=axes,
        flips=flips,
        oriented=bool(qform_code or sform_code),
        unit_mm=unit_mm,
    )
    header = NiftiHeader(
        units_code=units,
        qform_code=qform_code,
        sform_code=sform_code,
        pixdim=(pixdim[0], pixdim[1], pixdim[2], pixdim[3]),
        quaternion=tuple(
            float(fields[name]) for name in (*(f"quatern_{i}" for i in "bcd"), *(f"qoffset_{i}" for i in "xyz"))
        ),  # type: ignore[arg-type]
    )
    return geometry, header, notes


def _scale_affine(pixdim: list[float], where: str) -> np.ndarray:
    """Return the 4x4 matrix of a grid whose spacing alone is known."""
    if not all(0 < value < MOST_LENGTH for value in pixdim[1:]):
        problem = f"pixdim {pixdim[1:]} is not a positive, finite spacing"
        raise GossamerError(ErrorCode.GEOMETRY, where, problem, "export the volume again")
    return np.diag([*pixdim[1:], 1.0])


def _parse_qform(fields: Any, pixdim: list[float], where: str) -> np.ndarray:
    """Return the 4x4 matrix of the stored quaternion, method 2 of the standard."""
    _scale_affine(pixdim, where)
    try:
        qform = fields.get_qform()
    except ValueError as error:
        problem = f"the quaternion is longer than 1 ({error})"
        raise GossamerError(ErrorCode.GEOMETRY, where, problem, "export the volume again") from error
    fault = affine_fault(qform)
    if fault:
        raise GossamerError(ErrorCode.GEOMETRY, where, f"qform: {fault}", "export the volume again")
    return qform


def _compare_forms(
    sform: np.ndarray, qform: np.ndarray, shape: tuple[int, int, int], unit_mm: float, where: str
) -> list[Note]:
    first, second = (form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform))
    degrees = math.degrees(math.acos(float(np.clip((first * second).sum(axis=0).min(), -1, 1))))
    apart = corner_distance(sform, qform, shape) * unit_mm
    if degrees <= _MOST_DEGREES and apart <= _MOST_MM:
        return []
    text = f"qform and sform differ by {degrees:.2f} degrees and up to {apart:.3g} mm; sform is used"
    return [Note(ErrorCode.GEOMETRY, where, text)]


def _freeze_affine(affine: np.ndarray) -> Affine:
    return tuple((float(row[0]), float(row[1]), float(row[2]), float(row[3])) for row in affine)


def _syntax_error(where: str, problem: str) -> GossamerError:
    return GossamerError(ErrorCode.SYNTAX, where, problem, "export the volume again")
