"""Projections as DICOM-CT-PD-like files: one DICOM file a view, its geometry in the format's private tags.

The tags are those of the public library of patient projections (Moen et al. 2021, table IV). Its coordinates
are left-handed and seen from the table towards the gantry: x to the right (patient's left), y up, z into the
gantry (towards the head, head first); the focal spot of the angle ``phi`` is at
``(-rho sin phi, rho cos phi, z)``, so that ``phi = -view_angle``. Column 1 is on the left and row 1 farthest
from the table when the detector is below: columns are our channels, rows ours in reverse.
"""

from __future__ import annotations

CREATORS = {
    0x7029: "DetectorSystemArrangementModule",
    0x7031: "DetectorDynamicsModule",
    0x7033: "SourceDynamicsModule",
    0x7037: "ProjectionDataDefinitions",
    0x7039: "PreprocessingFlagsModule",
    0x7041: "WaterAttenuationModule",
}
TAGS: dict[str, tuple[int, str]] = {
    "NumberofDetectorRows": (0x70291010, "US"),
    "NumberofDetectorColumns": (0x70291011, "US"),
    "DetectorElementTransverseSpacing": (0x70291002, "FL"),
    "DetectorElementAxialSpacing": (0x70291006, "FL"),
    "DetectorShape": (0x7029100B, "CS"),
    "DetectorFocalCenterAngularPosition": (0x70311001, "FL"),
    "DetectorFocalCenterAxialPosition": (0x70311002, "FL"),
    "DetectorFocalCenterRadialDistance": (0x70311003, "FL"),
    "ConstantRadialDistance": (0x70311031, "FL"),
    "DetectorCentralElement": (0x70311033, "FL"),
    "SourceAngularPositionShift": (0x7033100B, "FL"),
    "SourceAxialPositionShift": (0x7033100C, "FL"),
    "SourceRadialDistanceShift": (0x7033100D, "FL"),
    "FlyingFocalSpotMode": (0x7033100E, "CS"),
    "NumberofSourceAngularSteps": (0x70331013, "US"),
    "NumberofSpectra": (0x70331061, "US"),
    "SpectrumIndex": (0x70331063, "US"),
    "PhotonStatistics": (0x70331065, "FL"),
    "TypeofProjectionData": (0x70371009, "CS"),
    "TypeofProjectionGeometry": (0x7037100A, "CS"),
    "BeamHardeningCorrectionFlag": (0x70391003, "CS"),
    "GainCorrectionFlag": (0x70391004, "CS"),
    "DarkFieldCorrectionFlag": (0x70391005, "CS"),
    "FlatFieldCorrectionFlag": (0x70391006, "CS"),
    "BadPixelCorrectionFlag": (0x70391007, "CS"),
    "ScatterCorrectionFlag": (0x70391008, "CS"),
    "LogFlag": (0x70391009, "CS"),
    "WaterAttenuationCoefficient": (0x70411001, "DS"),
}
SPOT_MODES = {"off": "FFSNONE", "z": "FFSZ", "in_plane": "FFSXY", "both": "FFSXYZ"}
