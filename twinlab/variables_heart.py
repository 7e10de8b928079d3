"""Registered variables of the heart: name, dims, units and meaning (see :mod:`twinlab.variables`)."""

HEART: list[tuple[str, str, str, str]] = [
    # geometry
    ("point", "node axis", "mm", "corner of the mesh in the patient system"),
    ("tet", "tet corner", "1", "nodes of a tetrahedron, positively oriented"),
    ("facet", "facet facet_corner", "1", "nodes of a boundary triangle, oriented outward"),
    ("facet_surface", "facet", "1", "1 epicardium, 2 left endocardium, 3 right endocardium, 4 base"),
    # electrophysiology
    ("activation_time", "z y x", "ms", "time at which the membrane potential first crosses the threshold"),
    ("repolarisation_time", "z y x", "ms", "time at which the membrane potential falls below the threshold"),
    # mechanics
    # circulation
    # flow
    # twin
]
