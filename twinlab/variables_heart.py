"""Registered variables of the heart: name, dims, units and meaning (see :mod:`twinlab.variables`)."""

# measures of one beat: name, units, meaning, in the order in which twinlab.kernels.heart_measures writes them
LOOP_MEASURES: tuple[tuple[str, str, str], ...] = (
    ("lv_edv", "ml", "greatest volume of the left ventricle"),
    ("lv_esv", "ml", "least volume of the left ventricle"),
    ("lv_ef", "%", "ejection fraction of the left ventricle"),
    ("rv_edv", "ml", "greatest volume of the right ventricle"),
    ("rv_esv", "ml", "least volume of the right ventricle"),
    ("rv_ef", "%", "ejection fraction of the right ventricle"),
    ("stroke_volume", "ml", "volume through the aortic valve in a beat"),
    ("cardiac_output", "l/min", "flow through the aortic valve"),
    ("lv_pressure_max", "mmHg", "greatest pressure in the left ventricle"),
    ("lv_pressure_ed", "mmHg", "pressure in the left ventricle when the mitral valve closes"),
    ("rv_pressure_max", "mmHg", "greatest pressure in the right ventricle"),
    ("rv_pressure_ed", "mmHg", "pressure in the right ventricle when the tricuspid valve closes"),
    ("systemic_systolic", "mmHg", "greatest pressure in the systemic arteries"),
    ("systemic_diastolic", "mmHg", "least pressure in the systemic arteries"),
    ("systemic_mean", "mmHg", "mean pressure in the systemic arteries"),
    ("pulmonary_systolic", "mmHg", "greatest pressure in the pulmonary arteries"),
    ("pulmonary_diastolic", "mmHg", "least pressure in the pulmonary arteries"),
    ("pulmonary_mean", "mmHg", "mean pressure in the pulmonary arteries"),
    ("left_atrial_mean", "mmHg", "mean pressure in the left atrium"),
    ("right_atrial_mean", "mmHg", "mean pressure in the right atrium"),
    ("lv_dpdt_max", "mmHg/s", "steepest rise of pressure in the left ventricle"),
    ("lv_dpdt_min", "mmHg/s", "steepest fall of pressure in the left ventricle"),
    ("rv_dpdt_max", "mmHg/s", "steepest rise of pressure in the right ventricle"),
    ("lv_stroke_work", "J", "area of the pressure-volume loop of the left ventricle"),
    ("rv_stroke_work", "J", "area of the pressure-volume loop of the right ventricle"),
    ("volume_imbalance", "1", "spread over the eight links of the volume that passed, over stroke volume"),
)

HEART: list[tuple[str, str, str, str]] = [
    # geometry
    ("point", "node axis", "mm", "corner of the mesh in the patient system"),
    ("tet", "tet corner", "1", "nodes of a tetrahedron, positively oriented"),
    ("facet", "facet facet_corner", "1", "nodes of a boundary triangle, oriented outward"),
    ("facet_surface", "facet", "1", "1 epicardium, 2 left endocardium, 3 right endocardium, 4 base"),
    ("wall", "tet", "1", "1 left free wall, 2 septum, 3 right free wall"),
    ("scar", "tet", "1", "0 healthy, 1 border zone, 2 scar"),
    ("fibre", "tet axis", "1", "unit vector along the muscle fibres"),
    ("sheet", "tet axis", "1", "unit vector across the fibres, in the sheet"),
    ("sheet_normal", "tet axis", "1", "unit vector across the sheet, fibre x sheet"),
    ("transmural", "node", "1", "depth in the wall: 0 endocardium, 1 epicardium"),
    ("apicobasal", "node", "1", "place along the ventricle: 0 apex, 1 base"),
    ("rotational", "node", "rad", "angle around the left long axis: 0 middle of the septum, grows anteriorly"),
    ("ventricle", "node", "1", "0 left ventricle with septum, 1 right free wall"),
    ("aha_segment", "tet", "1", "segment 1 to 17 of the left ventricle, 0 elsewhere"),
    # electrophysiology
    ("activation_time", "z y x", "ms", "time at which the membrane potential first crosses the threshold"),
    ("repolarisation_time", "z y x", "ms", "time at which the membrane potential falls below the threshold"),
    # mechanics
    # circulation
    ("compartment_pressure", "compartment time", "mmHg", "pressure of a compartment of the closed loop"),
    ("compartment_volume", "compartment time", "ml", "stressed volume of a compartment of the closed loop"),
    ("link_flow", "link time", "ml/s", "flow out of the compartment through a valve or vessels"),
    ("ventricle_pressure", "time", "mmHg", "pressure in the ventricle"),
    ("ventricle_volume", "time", "ml", "volume of the ventricle"),
    ("arterial_pressure", "time", "mmHg", "pressure at the inlet of the arterial load"),
    ("aortic_flow", "time", "ml/s", "flow from the ventricle into the arterial load"),
    *((name, "", units, meaning) for name, units, meaning in LOOP_MEASURES),
    # flow
    # twin
]
