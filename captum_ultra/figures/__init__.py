"""Drawing: from arrays and small values to figures and pages; knows no model and no method."""
