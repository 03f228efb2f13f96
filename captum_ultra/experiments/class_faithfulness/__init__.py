"""Which explanation of a class is faithful, on scenes where the truth is known?

The class of a scene is the pair of hues woven together in its one object (:mod:`captum_ultra.data.object_scenes`), so
that the evidence for it is the object's pixels and nothing else.
``python -m captum_ultra.experiments.class_faithfulness`` compares every method, and controls that know nothing of the
model, by where their maps lie, by what removing pixels in their order does to the classifier, and by what becomes of
the maps when the weights are randomised.
"""
